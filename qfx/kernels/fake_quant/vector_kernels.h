#pragma once
// The kernels over sixteen values at a time, written once for every vector level. A level's file defines, in an unnamed
// namespace, a Vector with what is used here, includes this and names its kernels. Everything has internal linkage.
//   Floats, Doubles: sixteen values; Mask: sixteen conditions, with bits(Mask) and mask(bits)
//   lower(bound, v), upper(bound, v): max and min that pass a NaN in v
#include <cstring>

#include "fake_quant/kernels.h"

namespace qfx::fake_quant {
namespace {

constexpr float kTieDoubt = 0.5f - 0x1p-14f;  // |t - rint(t)| above it: in doubt; |t| <= 257, error < 2^-14
constexpr double kSnap = 1.5 * 0x1p17;        // (t + kSnap) - kSnap is a multiple of 2^-35
constexpr double kWhole = 1.5 * 0x1p52;       // (t + kWhole) - kWhole is an integer

template <class V>
struct VectorKernels {
  using Floats = typename V::Floats;
  using Doubles = typename V::Doubles;
  using Mask = typename V::Mask;

  struct Steps {
    Floats scale, reciprocal, lowest, highest;
    Doubles reciprocal64;

    explicit Steps(const Grid& g) noexcept
        : scale(V::all(g.scale)),
          reciprocal(V::all(g.reciprocal)),
          lowest(V::all(g.lowest)),
          highest(V::all(g.highest)),
          reciprocal64(V::all(g.reciprocal64)) {}
    Steps(const Grids& g, int64_t i) noexcept
        : scale(V::load(g.scale + i)),
          reciprocal(V::load(g.reciprocal + i)),
          lowest(V::load(g.lowest + i)),
          highest(V::load(g.highest + i)),
          reciprocal64(V::load(g.reciprocal64 + i)) {}
  };

  struct Gates {
    Floats lo, hi;
    explicit Gates(const Gate& g) noexcept : lo(V::all(g.lo)), hi(V::all(g.hi)) {}
    Floats clamped(Floats x) const noexcept { return V::upper(hi, V::lower(lo, x)); }
    Mask inside(Floats x) const noexcept { return V::both(V::less(lo, x), V::less(x, hi)); }
  };

  // x / scale within one step of the range, rounded right at every tie.
  static Doubles quotient(Floats x, const Steps& s) noexcept {
    const Floats one = V::all(1.0f);
    const Doubles lo = V::widen(V::sub(s.lowest, one)), hi = V::widen(V::add(s.highest, one));
    return V::upper(hi, V::lower(lo, V::mul(V::widen(x), s.reciprocal64)));
  }
  static Doubles rounded(Doubles t) noexcept {
    const Doubles snap = V::all(kSnap), whole = V::all(kWhole);
    return V::sub(V::add(V::sub(V::add(t, snap), snap), whole), whole);
  }
  static Floats whole(Floats x, const Steps& s) noexcept {
    const Floats one = V::all(1.0f);
    const Floats lo = V::sub(s.lowest, one), hi = V::add(s.highest, one);
    const Floats t = V::upper(hi, V::lower(lo, V::mul(x, s.reciprocal)));
    const Floats k = V::rint(t);
    const Mask doubt = V::less(V::all(kTieDoubt), V::abs(V::sub(t, k)));
    return __builtin_expect(V::any(doubt), 0) ? V::narrow(rounded(quotient(x, s))) : k;
  }

  template <bool gated>
  static Floats value(Floats x, const Steps& s, const Gates& gates, Mask& passed) noexcept {
    const Floats k = whole(gated ? gates.clamped(x) : x, s);
    const Floats kept = V::upper(s.highest, V::lower(s.lowest, k));
    passed = V::equal(k, kept);
    if constexpr (gated) passed = V::both(passed, gates.inside(x));
    return V::add(V::mul(kept, s.scale), V::all(0.0f));
  }

  static void put_bits(uint8_t* passed, int64_t i, int64_t n, uint16_t bits) noexcept {
    if (passed == nullptr) return;
    passed[i / 8] = static_cast<uint8_t>(bits);
    if (n - i > 8) passed[i / 8 + 1] = static_cast<uint8_t>(bits >> 8);
  }
  static uint16_t get_bits(const uint8_t* passed, int64_t i, int64_t n) noexcept {
    return static_cast<uint16_t>(passed[i / 8] | (n - i > 8 ? passed[i / 8 + 1] << 8 : 0));
  }
  static uint16_t first(int64_t n) noexcept { return static_cast<uint16_t>(n >= 16 ? 0xffff : (1 << n) - 1); }

  template <bool gated, bool stream>
  static bool quantize_row(const float* x, float* y, uint8_t* passed, int64_t n, const Steps& steps,
                           const Gates& gates) noexcept {
    unsigned blocked = 0;
    int64_t i = 0;
    Mask mask;
    for (; i + 16 <= n; i += 16) {
      const Floats v = value<gated>(V::load(x + i), steps, gates, mask);
      if constexpr (stream)
        V::stream(y + i, v);
      else
        V::store(y + i, v);
      const uint16_t bits = V::bits(mask);
      if (passed != nullptr) std::memcpy(passed + i / 8, &bits, 2);
      blocked |= bits ^ 0xffffu;
    }
    if (i < n) {
      V::store(y + i, value<gated>(V::load(x + i, n - i), steps, gates, mask), n - i);
      const uint16_t bits = V::bits(mask) & first(n - i);
      put_bits(passed, i, n, bits);
      blocked |= static_cast<unsigned>(bits ^ first(n - i));
    }
    return blocked == 0;
  }

  static bool quantize(const float* x, float* y, uint8_t* passed, int64_t n, const Grid& grid, const Gate& gate,
                       bool stream) noexcept {
    const Steps steps(grid);
    const Gates gates(gate);
    if (stream && reinterpret_cast<uintptr_t>(y) % 64 == 0)
      return gate.open() ? quantize_row<false, true>(x, y, passed, n, steps, gates)
                         : quantize_row<true, true>(x, y, passed, n, steps, gates);
    return gate.open() ? quantize_row<false, false>(x, y, passed, n, steps, gates)
                       : quantize_row<true, false>(x, y, passed, n, steps, gates);
  }

  static bool quantize_columns(const float* x, float* y, uint8_t* passed, int64_t n, const Grids& grids,
                               const Gate& gate) noexcept {
    const Gates gates(gate);
    unsigned blocked = 0;
    for (int64_t i = 0; i < n; i += 16) {
      Mask mask;
      const int64_t here = n - i < 16 ? n - i : 16;
      const Floats v = value<true>(V::load(x + i, here), Steps(grids, i), gates, mask);
      V::store(y + i, v, here);
      const uint16_t bits = V::bits(mask) & first(here);
      put_bits(passed, i, n, bits);
      blocked |= static_cast<unsigned>(bits ^ first(here));
    }
    return blocked == 0;
  }

  struct Extent {
    Floats low, high;
    Mask numbers;
    // Operand order: a NaN in x is left out of both, and noted.
    void add(Floats x) noexcept {
      low = V::least(x, low);
      high = V::greatest(x, high);
      numbers = V::both(numbers, V::equal(x, x));
    }
    void add(const Extent& e) noexcept {
      low = V::least(e.low, low);
      high = V::greatest(e.high, high);
      numbers = V::both(numbers, e.numbers);
    }
  };

  static bool extremes(const float* x, int64_t n, float* low, float* high) noexcept {
    Extent e[4];
    for (Extent& lane : e) lane = {V::all(*low), V::all(*high), V::mask(0xffff)};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
      for (int j = 0; j < 4; ++j) e[j].add(V::load(x + i + 16 * j));
    for (; i + 16 <= n; i += 16) e[0].add(V::load(x + i));
    for (int j = 1; j < 4; ++j) e[0].add(e[j]);
    float lows[16], highs[16];
    V::store(lows, e[0].low);
    V::store(highs, e[0].high);
    bool numbers = V::bits(e[0].numbers) == 0xffff;
    const auto extend = [&](float lowest, float highest) {
      *low = lowest < *low ? lowest : *low;
      *high = highest > *high ? highest : *high;
    };
    for (int j = 0; j < 16; ++j) extend(lows[j], highs[j]);
    for (; i < n; ++i) {
      extend(x[i], x[i]);
      numbers = numbers && x[i] == x[i];
    }
    return numbers;
  }

  static bool extremes_of_columns(const float* x, int64_t rows, int64_t columns, float* low, float* high) noexcept {
    bool numbers = true;
    for (int64_t r = 0; r < rows; ++r, x += columns) {
      for (int64_t c = 0; c < columns; c += 16) {
        const int64_t here = columns - c < 16 ? columns - c : 16;
        Extent e{V::load(low + c, here), V::load(high + c, here), V::mask(0xffff)};
        e.add(V::load(x + c, here));
        V::store(low + c, e.low, here);
        V::store(high + c, e.high, here);
        numbers = V::bits(e.numbers) == 0xffff && numbers;
      }
    }
    return numbers;
  }

  struct Sums {
    Doubles residual, low, high;
  };

  template <bool gated>
  static Floats learn_step(Floats x, Floats g, const Steps& s, const Gates& gates, Sums& sums) noexcept {
    const Doubles t = quotient(gated ? gates.clamped(x) : x, s), whole = rounded(t);
    const Floats k = V::narrow(whole);
    Mask low = V::less(k, s.lowest), high = V::less(s.highest, k), numbers = V::equal(k, k);
    if constexpr (gated) {
      low = V::either(low, V::at_most(x, gates.lo));
      high = V::either(high, V::at_most(gates.hi, x));
    }
    const Mask passed = V::without(V::without(numbers, low), high);
    const Floats residual = V::select(passed, V::narrow(V::sub(whole, t)));
    const Floats through = V::select(passed, g);
    sums.residual = V::add(sums.residual, V::mul(V::widen(through), V::widen(residual)));
    sums.low = V::add(sums.low, V::widen(V::select(low, g)));
    sums.high = V::add(sums.high, V::widen(V::select(high, g)));
    return through;
  }

  static Sums load_sums(const double* sums, int64_t stride) noexcept {
    return {V::load(sums), V::load(sums + stride), V::load(sums + 2 * stride)};
  }
  static void store_sums(double* sums, int64_t stride, const Sums& s) noexcept {
    V::store(sums, s.residual);
    V::store(sums + stride, s.low);
    V::store(sums + 2 * stride, s.high);
  }

  template <bool gated>
  static void learn_row(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                        double* sums) noexcept {
    const Steps steps(grid);
    const Gates gates(gate);
    Sums total = load_sums(sums, kLanes);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
      V::store(gx + i, learn_step<gated>(V::load(x + i), V::load(g + i), steps, gates, total));
    if (i < n)
      V::store(gx + i, learn_step<gated>(V::load(x + i, n - i), V::load(g + i, n - i), steps, gates, total), n - i);
    store_sums(sums, kLanes, total);
  }

  static void learn(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                    double* sums) noexcept {
    return gate.open() ? learn_row<false>(x, g, gx, n, grid, gate, sums)
                       : learn_row<true>(x, g, gx, n, grid, gate, sums);
  }

  static void learn_columns(const float* x, const float* g, float* gx, int64_t n, const Grids& grids, double* sums,
                            int64_t stride) noexcept {
    const Gates gates{Gate{}};
    for (int64_t i = 0; i < n; i += 16) {
      const int64_t here = n - i < 16 ? n - i : 16;
      Sums total = load_sums(sums + i, stride);
      const Floats v = learn_step<false>(V::load(x + i, here), V::load(g + i, here), Steps(grids, i), gates, total);
      V::store(gx + i, v, here);
      store_sums(sums + i, stride, total);
    }
  }
};

}  // namespace
}  // namespace qfx::fake_quant
