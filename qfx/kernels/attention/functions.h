#pragma once
// The functions of attention.h on lanes of any width (core/lanes.h), and the scratch of its kernels.
#include <cfloat>
#include <limits>
#include <type_traits>

#include "core/aligned.h"
#include "core/lanes.h"
#include "core/split.h"

namespace qfx::attention {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class V>
inline V converted(Ints<V> i) noexcept {
  if constexpr (std::is_same_v<V, float>)
    return static_cast<float>(i);
  else
    return __builtin_convertvector(i, V);
}

// The lowest bytes of four, side by side in each lane.
template <class V>
inline Ints<V> low_bytes(const Ints<V> (&v)[4]) noexcept {
  return (v[0] & 0xff) | (v[1] & 0xff) << 8 | (v[2] & 0xff) << 16 | v[3] << 24;
}

// Added to |v| < 2^22 it leaves rint(v), halves to even, in the low bits.
constexpr float kRounding = 0x1.8p23f;

// 2^t for t <= 8; 0 from -126.5 down, and of NaN. A polynomial of least maximal relative error on [-1/2, 1/2] that is 1
// at 0: within 2^-18, relative.
template <class V>
inline V exp2_of(V t) noexcept {
  constexpr float kBiased = kRounding + 127;
  t = most(t, all<V>(-127.0f));
  const V r = t + kBiased;
  const V f = t - (r - kBiased);
  const V p =
      (((f * 0.009582854807376862f + 0.05590642988681793f) * f + 0.24024099111557007f) * f + 0.6931241750717163f) * f +
      1.0f;
  return p * floats<V>(ints(r) << 23);
}

// log2(v) of a positive normal v. A polynomial of least maximal error on [sqrt(1/2), sqrt(2)] that is 0 at 1: within
// 2^-16 and the rounding of the sum.
template <class V>
inline V log2_of(V v) noexcept {
  constexpr int32_t kRootOfHalf = 0x3f3504f3;
  const Ints<V> exponent = (ints(v) - kRootOfHalf) >> 23;
  const V z = floats<V>(ints(v) - (exponent << 23)) - 1.0f;
  const V p =
      (((z * 0.2526611089706421f - 0.3945755064487457f) * z + 0.4866860508918762f) * z - 0.7202417850494385f) * z +
      1.4425779581069946f;
  return converted<V>(exponent) + p * z;
}

// log2(255): a block's greatest weight is 255.
constexpr float kWeights = 7.99435344f;

// Of a row's greatest |x|, as its bits: those of an infinity or a NaN are the greatest of all.
constexpr int32_t kNotFinite = 0x7f800000;

// What codes are made with, and what they stand for: NaN where the row is not finite.
template <class V>
struct Scaling {
  V inverse, scale;
};
template <class V>
inline Scaling<V> scaling_of(Ints<V> top) noexcept {
  const V size = most(floats<V>(top), all<V>(0x1p-60f));
  const V scale = size / 127.0f;
  return {127.0f / size, top < kNotFinite ? scale : all<V>(kNaN)};
}

// What an entry of a float mask adds to a score.
template <class V>
inline V mask_offset(V m) noexcept {
  const V offset = most(least(m * 1.44269504f, all<V>(kInfinity)), all<V>(-FLT_MAX));
  return m == all<V>(-kInfinity) ? all<V>(-kInfinity) : offset;
}

// Lays out arrays in a kernel's scratch; only counts where there is none.
class Room {
 public:
  explicit Room(std::byte* begin) noexcept : begin_(begin) {}
  template <class T>
  T* take(int64_t count) noexcept {
    T* at = begin_ == nullptr ? nullptr : reinterpret_cast<T*>(begin_ + used_);
    used_ += in_lines(count * static_cast<int64_t>(sizeof(T)));
    return at;
  }
  int64_t used() const noexcept { return used_; }

 private:
  std::byte* begin_;
  int64_t used_ = 0;
};

}  // namespace
}  // namespace qfx::attention
