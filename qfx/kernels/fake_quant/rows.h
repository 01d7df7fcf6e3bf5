#pragma once
// How a tensor of a Layout is walked: rows, cut into pieces of at most kPiece values.
#include <algorithm>
#include <cstddef>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "core/split.h"
#include "fake_quant/fake_quant.h"

namespace qfx::fake_quant {

constexpr int64_t kPiece = 4096;  // values; whole bytes of bits, and lanes

constexpr int64_t kStreamBytes = int64_t{16} << 20;  // results that no cache keeps until they are read

// Stores past the caches are seen by other threads only after this.
inline void finish_stores() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

inline int64_t padded_channels(const Layout& layout) noexcept {
  return (layout.channels + kLanes - 1) / kLanes * kLanes;
}

struct Piece {
  int64_t channel;  // of its first value
  int64_t at;       // index of its first value
  int64_t n;
  int64_t bits;  // index of its first byte of bits
};

struct Rows {
  bool columns;  // a channel each value, else a channel each row
  int64_t channels, rows, length, segments, row_bytes;

  explicit Rows(const Layout& l) noexcept
      : columns(l.inner == 1 && l.channels > 1),
        channels(l.channels),
        rows(columns ? l.outer : l.outer * l.channels),
        length(columns ? l.channels : l.inner),
        segments((length + kPiece - 1) / kPiece),
        row_bytes((length + 7) / 8) {}

  int64_t pieces() const noexcept { return rows * segments; }

  Piece piece(int64_t index) const noexcept {
    const int64_t row = index / segments, begin = (index - row * segments) * kPiece;
    return {columns ? begin : row % channels, row * length + begin, std::min(kPiece, length - begin),
            row * row_bytes + begin / 8};
  }
};

// Addresses by index in a tensor of 2 or 4 byte elements.
inline size_t element_bytes(Element e) noexcept {
  return e == Element::f32 ? 4 : 2;
}
inline const void* at(const void* base, int64_t index, Element e) noexcept {
  return static_cast<const std::byte*>(base) + static_cast<size_t>(index) * element_bytes(e);
}
inline void* at(void* base, int64_t index, Element e) noexcept {
  return static_cast<std::byte*>(base) + static_cast<size_t>(index) * element_bytes(e);
}

// The conversions of a half type; unused for float32.
class Halves {
 public:
  Halves(Element e, Isa isa) noexcept
      : widen_(e == Element::bf16 ? select<WidenBrain>(isa).run : select<WidenHalf>(isa).run),
        narrow_(e == Element::bf16 ? select<NarrowBrain>(isa).run : select<NarrowHalf>(isa).run),
        element_(e) {}

  // n values as float32: where they lie, or in `buffer`.
  const float* read(const void* base, int64_t index, int64_t n, float* buffer) const noexcept {
    if (element_ == Element::f32) return static_cast<const float*>(base) + index;
    widen_(static_cast<const uint16_t*>(base) + index, buffer, n);
    return buffer;
  }
  // Where n results go: their place, or `buffer`, which write() brings there.
  float* place(void* base, int64_t index, float* buffer) const noexcept {
    return element_ == Element::f32 ? static_cast<float*>(base) + index : buffer;
  }
  void write(void* base, int64_t index, int64_t n, const float* buffer) const noexcept {
    if (element_ != Element::f32) narrow_(buffer, static_cast<uint16_t*>(base) + index, n);
  }

 private:
  WidenBrain::Fn* widen_;
  NarrowBrain::Fn* narrow_;
  Element element_;
};

// Grids of all channels in the memory of `floats` and `doubles`; returns whether the vector kernels can take them.
Grids place_grids(const Layout& layout, std::vector<float>& floats, std::vector<double>& doubles);
bool fill_grids(const Layout& layout, const Integers& integers, const QParamState& state, Grids& grids) noexcept;

inline Grid grid_at(const Grids& g, int64_t c) noexcept {
  return {g.scale[c], g.reciprocal[c], g.reciprocal64[c], g.lowest[c], g.highest[c]};
}
inline Grids grids_from(const Grids& g, int64_t c) noexcept {
  return {g.scale + c, g.reciprocal + c, g.reciprocal64 + c, g.lowest + c, g.highest + c};
}

}  // namespace qfx::fake_quant
