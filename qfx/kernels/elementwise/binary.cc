#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "core/nest.h"
#include "elementwise/kernels.h"

namespace qfx {
namespace {

using namespace elementwise;

constexpr int64_t kTile = 2048;   // elements; a shorter period is repeated to about this in scratch
constexpr int64_t kChunk = 4096;  // elements between computing and looking up: stays in L1

// The innermost part of a broadcast that is one run in y: `width` elements, dense in one operand and, when
// `period` is not 0, repeating every `period` elements in the other.
struct Run {
  int64_t width = 1;
  int64_t period = 0;
  int periodic = 0;  // the operand that repeats
};

Run take_run(Nest<2>& nest) {
  Run run;
  const auto inner = nest.pop();
  run.width = inner.size;
  if (inner.stride[0] != inner.stride[1]) {
    run.period = 1;
    run.periodic = inner.stride[0] == 0 ? 0 : 1;
    return run;
  }
  if (nest.rank == 0) return run;
  const int last = nest.rank - 1;
  for (int k = 0; k < 2; ++k) {
    if (nest.stride[k][last] != 0 || nest.stride[1 - k][last] != run.width) continue;
    run.period = run.width;
    run.periodic = k;
    run.width *= nest.pop().size;
    return run;
  }
  return run;
}

class BinaryWork final : public Work {
 public:
  BinaryWork(const BinaryQuant& quant, Nest<2> nest, std::span<const uint8_t> lut, Isa isa)
      : quant_(quant),
        run_(take_run(nest)),
        outer_(nest),
        has_lut_(!lut.empty()),
        kernel_(select<Binary>(isa)),
        lookup_(select<Lookup>(isa)) {
    std::ranges::copy(lut, lut_);
    if (run_.period != 0 && run_.period < kTile)
      tile_ = std::min(run_.width, (kTile + run_.period - 1) / run_.period * run_.period);
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const uint8_t* operand[] = {static_cast<const uint8_t*>(in[0]), static_cast<const uint8_t*>(in[1])};
    auto* y = static_cast<uint8_t*>(out[0]);
    auto* tile = reinterpret_cast<uint8_t*>(scratch);
    // A multiple of the period, so that every piece starts at the beginning of one.
    const int64_t grain = run_.period == 0 ? 64 : (63 + run_.period) / run_.period * run_.period;
    const Range part = split(outer_.count() * run_.width, tid, threads, grain);
    for_each_row(part, outer_, run_.width, [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
      const uint8_t* x[] = {operand[0] + offset[0], operand[1] + offset[1]};
      if (tile_ != 0) fill_tile(tile, x[run_.periodic]);
      run_row(x, tile, y + row * run_.width, column, n);
    });
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(tile_); }
  int64_t cost() const noexcept override { return 3 * outer_.count() * run_.width; }
  std::vector<const char*> kernels() const override {
    if (has_lut_) return {kernel_.name, lookup_.name};
    return {kernel_.name};
  }
  std::string details() const override { return run_.period != 0 ? "broadcast" : ""; }

 private:
  void fill_tile(uint8_t* tile, const uint8_t* pattern) const noexcept {
    if (run_.period == 1) {
      std::memset(tile, *pattern, static_cast<size_t>(tile_));
      return;
    }
    for (int64_t i = 0; i < tile_; i += run_.period) std::memcpy(tile + i, pattern, static_cast<size_t>(run_.period));
  }

  void run_row(const uint8_t* const* x, const uint8_t* tile, uint8_t* y, int64_t column, int64_t n) const noexcept {
    const int64_t limit = run_.period == 0 ? n : (tile_ != 0 ? tile_ : run_.period);
    const int64_t step = has_lut_ && run_.period == 0 ? kChunk : limit;
    for (int64_t done = 0; done < n; done += step) {
      const int64_t piece = std::min(step, n - done), at = column + done;
      const uint8_t* operand[] = {x[0] + at, x[1] + at};
      if (run_.period != 0) operand[run_.periodic] = tile_ != 0 ? tile : x[run_.periodic];
      kernel_.run(operand[0], operand[1], y + at, piece, quant_);
      if (has_lut_) lookup_.run(y + at, y + at, piece, lut_);
    }
  }

  BinaryQuant quant_;
  Run run_;
  Nest<2> outer_;
  bool has_lut_;
  uint8_t lut_[256] = {};
  int64_t tile_ = 0;
  Kernel<Binary> kernel_;
  Kernel<Lookup> lookup_;
};

void check_zero_point(int32_t zero_point) {
  if (zero_point < 0 || zero_point > 255) throw std::invalid_argument("a zero point outside 0..255");
}

void check(const BinaryQuant& q, std::span<const uint8_t> lut) {
  check_zero_point(q.a_zero_point);
  check_zero_point(q.b_zero_point);
  check_zero_point(q.zero_point);
  if (q.lo < 0 || q.hi > 255 || q.lo > q.hi) throw std::invalid_argument("clamp bounds outside 0..255");
  // Below this no intermediate value overflows, so v is never NaN.
  if (!(std::fabs(q.a_multiplier) < 1e30f && std::fabs(q.b_multiplier) < 1e30f))
    throw std::invalid_argument("a multiplier that is not finite or beyond 1e30");
  if (!lut.empty() && lut.size() != 256) throw std::invalid_argument("a lookup table of other than 256 entries");
}

}  // namespace

std::unique_ptr<Work> plan_binary_u8(const BinaryQuant& quant, const Dims& a, const Dims& b,
                                     std::span<const uint8_t> lut, Isa isa) {
  check(quant, lut);
  if (a.size() != b.size()) throw std::invalid_argument("operands of different rank");
  Dims shape(a.size());
  std::vector<int64_t> strides[] = {dense_strides(a), dense_strides(b)};
  for (size_t d = 0; d < a.size(); ++d) {
    if (a[d] != b[d] && a[d] != 1 && b[d] != 1) throw std::invalid_argument("shapes that do not broadcast");
    shape[d] = a[d] == 1 ? b[d] : a[d];
    if (a[d] == 1) strides[0][d] = 0;
    if (b[d] == 1) strides[1][d] = 0;
  }
  element_count(shape);
  return std::make_unique<BinaryWork>(quant, collapse(shape, strides), lut, isa);
}

}  // namespace qfx
