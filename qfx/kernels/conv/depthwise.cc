#include "conv/depthwise.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "conv/depthwise_slide.h"
#include "core/aligned.h"
#include "core/split.h"

namespace qfx::conv {
namespace {

constexpr DepthwiseKernel kKernels[] = {
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  {#name, Isa::isa, pixels, channels, name##_interleave, name, nullptr},
#define QFX_CONV_SLIDE(name, isa, window, channels) \
  {#name, Isa::isa, 1, channels, nullptr, nullptr, nullptr, name, window},
#define QFX_CONV_AFFINE(name, isa, channels) {#name, Isa::isa, 1, channels, nullptr, nullptr, name},
#include "conv/kernels.inc"
    {"", Isa::scalar, 0, 0, nullptr, nullptr, nullptr},
};

constexpr int64_t kLanes = kDepthwiseLanes;
constexpr int64_t kColumnBytes = kLanes * 4;
constexpr int64_t kLineBytes = 16 * 1024;    // of interleaved columns, to stay in L1
constexpr int64_t kSourceBytes = 20 * 1024;  // of the lines of x below them
constexpr int64_t kFewestColumns = 24;       // that a block is cut to for that
constexpr int64_t kMostPeriod = 2048;        // lanes after which the channels of a wide pixel repeat
constexpr int64_t kAffineColumns = 64;
constexpr int64_t kAffineBlockBytes = 16 * 1024;

// One line of x under the window of a group of output lines.
struct Slot {
  int64_t plane;  // kernel tap of dim 0
  int64_t row;    // input rows below the window's origin
};

// The lines of x that `lines` neighbouring output lines read.
struct LinePlan {
  int64_t lines = 1;
  int64_t groups = 1;  // of four slots
  std::vector<Slot> slots;
};

LinePlan plan_lines(const ConvGeometry& g) {
  const int64_t two = g.stride[1] + g.kernel[1];
  LinePlan plan;
  // A second output line is free where its lines of x fit into the groups that the first one fills.
  if (g.kernel[0] == 1 && g.dilation[1] == 1 && ceil_div(two, 4) == ceil_div(g.kernel[1], 4)) {
    plan.lines = 2;
    for (int64_t row = 0; row < two; ++row) plan.slots.push_back({0, row});
  } else {
    for (int64_t k0 = 0; k0 < g.kernel[0]; ++k0) {
      for (int64_t k1 = 0; k1 < g.kernel[1]; ++k1) plan.slots.push_back({k0, k1 * g.dilation[1]});
    }
  }
  plan.groups = ceil_div(static_cast<int64_t>(plan.slots.size()), 4);
  return plan;
}

// How channels become lanes: pixels of `channels`, or runs of several pixels (`period` lanes) where that wastes less.
int64_t lane_period(const ConvGeometry& g) {
  const int64_t period = std::lcm(g.c_in, kLanes);
  const bool wasteful = g.c_in < kLanes && 5 * g.c_in < 4 * ((g.c_in + 15) / 16 * 16);
  return g.stride[2] == 1 && wasteful && period <= kMostPeriod ? period : 0;
}

struct Vectors {
  AlignedVector<std::byte> weights;
  AlignedVector<int32_t> bias;
  AlignedVector<float> multiplier;

  size_t bytes() const noexcept {
    return weights.size() + bias.size() * sizeof(int32_t) + multiplier.size() * sizeof(float);
  }
  void resize(int64_t lanes, int64_t weight_bytes) {
    weights.resize(static_cast<size_t>(weight_bytes));
    bias.resize(static_cast<size_t>(lanes));
    multiplier.resize(static_cast<size_t>(lanes));
  }
  void set(const Problem& p, int64_t lane, int64_t channel) {
    bias[static_cast<size_t>(lane)] = p.folded_bias[static_cast<size_t>(channel)];
    multiplier[static_cast<size_t>(lane)] = p.multiplier[static_cast<size_t>(channel)];
  }
};

// Weights, biases and multipliers for chunks of 32 lanes.
Vectors pack_lanes(const Problem& p, const LinePlan& plan, int64_t lanes) {
  const ConvGeometry& g = p.geometry;
  const int64_t tap_bytes = plan.lines * kColumnBytes;
  const int64_t chunk_bytes = plan.groups * g.kernel[2] * tap_bytes;
  Vectors v;
  v.resize((lanes + kLanes - 1) / kLanes * kLanes, (lanes + kLanes - 1) / kLanes * chunk_bytes);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t channel = lane % g.c_in;
    v.set(p, lane, channel);
    for (size_t s = 0; s < plan.slots.size(); ++s) {
      const auto slot = static_cast<int64_t>(s);
      for (int64_t line = 0; line < plan.lines; ++line) {
        const int64_t row = plan.lines == 1 ? slot % g.kernel[1] : slot - line * g.stride[1];
        if (row < 0 || row >= g.kernel[1]) continue;
        for (int64_t k2 = 0; k2 < g.kernel[2]; ++k2) {
          const int64_t tap = (plan.slots[s].plane * g.kernel[1] + row) * g.kernel[2] + k2;
          const int64_t at = lane / kLanes * chunk_bytes + (slot / 4 * g.kernel[2] + k2) * tap_bytes +
                             line * kColumnBytes + lane % kLanes * 4 + slot % 4;
          v.weights[static_cast<size_t>(at)] = static_cast<std::byte>(p.centered(channel, tap, 0));
        }
      }
    }
  }
  return v;
}

class PackedDepthwise final : public PackedConv {
 public:
  PackedDepthwise(const DepthwiseKernel& kernel, Problem problem)
      : kernel(kernel),
        problem(std::move(problem)),
        lines(plan_lines(this->problem.geometry)),
        period(lane_period(this->problem.geometry)),
        by_pixel(pack_lanes(this->problem, lines, this->problem.geometry.c_in)) {
    if (period > 0) by_period = pack_lanes(this->problem, lines, period);
    this->problem.weight = {};
    epilogue = epilogue_of(this->problem);
  }
  std::unique_ptr<Work> plan(const ConvShape& shape) const override;
  int64_t y_bytes() const noexcept { return epilogue.f32_output ? 4 : 1; }
  size_t packed_bytes() const noexcept override {
    return by_pixel.bytes() + by_period.bytes() + problem.lut.entries.size();
  }

  const DepthwiseKernel kernel;
  Problem problem;  // without its weights
  const LinePlan lines;
  const int64_t period;  // 0: lanes are always the channels of one pixel
  const Vectors by_pixel;
  Vectors by_period;
  Epilogue epilogue;
};

class DepthwiseWork final : public Work {
 public:
  DepthwiseWork(const PackedDepthwise& packed, const ConvShape& shape);

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override;
  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(scratch_bytes_); }
  int64_t cost() const noexcept override;
  int64_t products() const noexcept override { return products_of(packed_.problem, shape_); }
  std::vector<const char*> kernels() const override { return {packed_.kernel.name}; }
  std::string details() const override;

 private:
  // Output lines [row, row + lines) of a plane, outputs [begin, end) of each, chunks [first, last) of lanes.
  struct Unit {
    int64_t image, plane, row, begin, end, first, last;
  };
  struct Operands {
    const uint8_t* x;
    const void* residual;
    std::byte* y;
    std::byte* scratch;
  };

  struct Source {
    const uint8_t* line;
    int64_t step;
  };

  void plan_blocks();
  void run_plane(const Operands& to, int64_t plane, Range rows, Range columns) const noexcept;
  Unit unit_at(int64_t plane, int64_t column, int64_t row_group) const noexcept;
  void run_pixel_lanes(const Operands& to, const Unit& unit) const noexcept;
  void run_wide_lanes(const Operands& to, const Unit& unit) const noexcept;
  Source source_of(const Operands& to, const Unit& unit, int64_t index, const uint8_t* padding) const noexcept;
  void interleave(const Operands& to, const Unit& unit, int64_t chunk, int64_t group) const noexcept;
  void set_line(DepthwiseLine& line, const Operands& to, const Unit& unit, int64_t chunk) const noexcept;
  const Vectors& vectors() const noexcept { return wide_ ? packed_.by_period : packed_.by_pixel; }

  const PackedDepthwise& packed_;
  ConvShape shape_;
  bool wide_;             // lanes run over several pixels
  int64_t chunks_;        // of lanes
  int64_t unit_chunks_;   // in a unit
  int64_t chunk_blocks_;  // ceil(chunks / unit_chunks)
  int64_t row_groups_;    // groups of output lines in a plane
  int64_t blocks_;        // of outputs in a line
  int64_t block_;         // outputs in a block
  int64_t column_bytes_;  // of an interleaved pixel
  int64_t group_bytes_ = 0;
  int64_t scratch_bytes_ = 0;
};

DepthwiseWork::DepthwiseWork(const PackedDepthwise& packed, const ConvShape& shape) : packed_(packed), shape_(shape) {
  const ConvGeometry& g = packed.problem.geometry;
  wide_ = packed.period > 0 && shape.x_pixel_stride == g.c_in && shape.y_pixel_stride == g.c_out;
  chunks_ = ceil_div(wide_ ? packed.period : g.c_in, kLanes);
  row_groups_ = ceil_div(shape.out[1], packed.lines.lines);
  column_bytes_ = wide_ ? g.c_in * 4 : kColumnBytes;
  plan_blocks();
}

// Blocks of a line for which the interleaved columns, and the lines of x below them, stay in L1.
void DepthwiseWork::plan_blocks() {
  const ConvGeometry& g = packed_.problem.geometry;
  const LinePlan& lines = packed_.lines;
  const int64_t halo = (g.kernel[2] - 1) * g.dilation[2] + 1;
  const int64_t width = std::max<int64_t>(1, shape_.out[2]);
  const int64_t x_bytes = static_cast<int64_t>(lines.slots.size()) * g.c_in;
  const int64_t columns =
      std::min(kLineBytes / (lines.groups * column_bytes_), std::max(kSourceBytes / x_bytes, kFewestColumns));
  const int64_t fits = std::clamp<int64_t>((columns - halo) / g.stride[2] + 1, 16, std::max<int64_t>(16, width));
  const int64_t pixels_a_step = wide_ ? packed_.period / g.c_in : 1;
  block_ = ceil_div(ceil_div(width, ceil_div(width, fits)), pixels_a_step) * pixels_a_step;
  blocks_ = ceil_div(width, block_);
  const int64_t block_columns = (std::min(block_, width) - 1) * g.stride[2] + halo;
  const int64_t chunks_in_l1 = kSourceBytes / (static_cast<int64_t>(lines.slots.size()) * block_columns * kLanes);
  unit_chunks_ = wide_ ? chunks_ : std::clamp<int64_t>(chunks_in_l1 / 2 * 2, 2, 4);
  chunk_blocks_ = ceil_div(chunks_, unit_chunks_);
  // Interleaving writes whole vectors; a chunk of a wide pixel reads as many.
  const int64_t slack = 2 * kColumnBytes + (wide_ ? packed_.period * 4 : 0);
  group_bytes_ = ceil_div(block_columns * column_bytes_ + slack, 64) * 64;
  scratch_bytes_ = lines.groups * group_bytes_;
}

std::unique_ptr<Work> PackedDepthwise::plan(const ConvShape& shape) const {
  check_shape(problem.geometry, shape);
  return std::make_unique<DepthwiseWork>(*this, shape);
}

void DepthwiseWork::run(const void* const* in, void* const* out, std::byte* scratch, int tid,
                        int threads) const noexcept {
  if (pixels(shape_.out) == 0) return;
  const Operands to{static_cast<const uint8_t*>(in[0]), packed_.problem.quant.residual ? in[1] : nullptr,
                    static_cast<std::byte*>(out[0]), scratch};
  const int64_t planes = shape_.n * shape_.out[0], columns = blocks_ * chunk_blocks_;
  const bool by_rows =
      slowest_share(planes * columns, threads) >= kClearlyLess * slowest_share(planes * row_groups_, threads);
  const Range range = split(by_rows ? planes * row_groups_ : planes * columns, tid, threads);
  const int64_t per_plane = by_rows ? row_groups_ : columns;
  for (int64_t at = range.begin; at < range.end;) {  // what this thread does of one plane
    const int64_t plane = at / per_plane, first = at % per_plane;
    const int64_t last = std::min(first + range.end - at, per_plane);
    const Range all_rows{0, row_groups_}, all_columns{0, columns}, mine{first, last};
    run_plane(to, plane, by_rows ? mine : all_rows, by_rows ? all_columns : mine);
    at += last - first;
  }
}

// Rows innermost: the lines of x that neighbouring rows share are still in L1.
void DepthwiseWork::run_plane(const Operands& to, int64_t plane, Range rows, Range columns) const noexcept {
  for (int64_t column = columns.begin; column < columns.end; ++column) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const Unit unit = unit_at(plane, column, row);
      wide_ ? run_wide_lanes(to, unit) : run_pixel_lanes(to, unit);
    }
  }
}

DepthwiseWork::Unit DepthwiseWork::unit_at(int64_t plane, int64_t column, int64_t row_group) const noexcept {
  Unit u{};
  u.row = row_group * packed_.lines.lines;
  u.first = column % chunk_blocks_ * unit_chunks_;
  u.last = std::min(u.first + unit_chunks_, chunks_);
  u.begin = column / chunk_blocks_ * block_;
  u.end = std::min(u.begin + block_, shape_.out[2]);
  u.plane = plane % shape_.out[0];
  u.image = plane / shape_.out[0];
  return u;
}

void DepthwiseWork::run_pixel_lanes(const Operands& to, const Unit& unit) const noexcept {
  for (int64_t chunk = unit.first; chunk < unit.last; ++chunk) {
    for (int64_t group = 0; group < packed_.lines.groups; ++group) interleave(to, unit, chunk, group);
    DepthwiseLine line;
    set_line(line, to, unit, chunk);
    line.count = unit.end - unit.begin;
    line.out[0].columns = line.out[1].columns = std::min(kLanes, packed_.problem.geometry.c_in - chunk * kLanes);
    packed_.kernel.run(line);
  }
}

void DepthwiseWork::run_wide_lanes(const Operands& to, const Unit& unit) const noexcept {
  for (int64_t group = 0; group < packed_.lines.groups; ++group) interleave(to, unit, 0, group);
  const int64_t total = (unit.end - unit.begin) * packed_.problem.geometry.c_in;
  for (int64_t chunk = 0; chunk * kLanes < total && chunk < chunks_; ++chunk) {
    const int64_t left = total - chunk * kLanes;
    DepthwiseLine line;
    set_line(line, to, unit, chunk);
    line.count = left < kLanes ? 0 : (left - kLanes) / packed_.period + 1;
    line.out[0].columns = line.out[1].columns = kLanes;
    if (line.count > 0) packed_.kernel.run(line);
    const int64_t rest = std::min(kLanes, left - line.count * packed_.period);
    if (rest <= 0) continue;
    line.data += line.count * line.pixel_step;
    for (Output& out : line.out) {
      if (out.y != nullptr) out.y = static_cast<std::byte*>(out.y) + line.count * out.y_row * packed_.y_bytes();
      if (out.residual != nullptr) out.residual += line.count * out.residual_row;
      if (out.addend != nullptr) out.addend += line.count * out.addend_row;
      out.columns = rest;
    }
    line.count = 1;
    packed_.kernel.run(line);
  }
}

// Column 0 of the line of x at a slot of a unit; `padding`, not to be stepped along, for one outside.
inline DepthwiseWork::Source DepthwiseWork::source_of(const Operands& to, const Unit& unit, int64_t index,
                                                      const uint8_t* padding) const noexcept {
  const ConvGeometry& g = packed_.problem.geometry;
  const std::vector<Slot>& slots = packed_.lines.slots;
  // Past the last slot weights are zero: any line will do.
  const Slot& slot = slots[static_cast<size_t>(std::min<int64_t>(index, static_cast<int64_t>(slots.size()) - 1))];
  const int64_t k0 = unit.plane * g.stride[0] - g.pad_lo[0] + slot.plane * g.dilation[0];
  const int64_t k1 = unit.row * g.stride[1] - rows_above(g, shape_) + slot.row;
  if (k0 < 0 || k0 >= shape_.in[0] || k1 < 0 || k1 >= shape_.in[1]) return {padding, 0};
  const int64_t pixel = ((unit.image * shape_.in[0] + k0) * shape_.in[1] + k1) * shape_.in[2];
  return {to.x + pixel * shape_.x_pixel_stride, shape_.x_pixel_stride};
}

// Interleaves the four lines of `group` under a chunk of a unit, the padding included.
void DepthwiseWork::interleave(const Operands& to, const Unit& unit, int64_t chunk, int64_t group) const noexcept {
  const ConvGeometry& g = packed_.problem.geometry;
  alignas(32) uint8_t padding[kLanes];
  const auto code = static_cast<uint8_t>(packed_.problem.quant.x_zero_point);
  std::memset(padding, code, sizeof padding);

  const int64_t start = unit.begin * g.stride[2] - g.pad_lo[2];
  const int64_t count = (unit.end - unit.begin - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  const int64_t begin = std::clamp<int64_t>(-start, 0, count);
  const int64_t end = std::clamp<int64_t>(shape_.in[2] - start, begin, count);
  std::byte* columns = to.scratch + group * group_bytes_;

  InterleaveLine line;
  for (int64_t i = 0; i < 4; ++i) {
    const Source source = source_of(to, unit, group * 4 + i, padding);
    const bool inside = source.step != 0;
    line.lines[i] = source.line + (inside ? (start + begin) * shape_.x_pixel_stride + chunk * kLanes : 0);
    line.steps[i] = inside && wide_ ? kLanes : source.step;
  }
  if (begin > 0) std::memset(columns, code, static_cast<size_t>(begin * column_bytes_));
  line.to = columns + begin * column_bytes_;
  line.count = wide_ ? ceil_div((end - begin) * g.c_in, kLanes) : end - begin;
  line.lanes = wide_ ? kLanes : std::min(kLanes, g.c_in - chunk * kLanes);
  packed_.kernel.interleave(line);
  if (end < count) std::memset(columns + end * column_bytes_, code, static_cast<size_t>((count - end) * column_bytes_));
}

void DepthwiseWork::set_line(DepthwiseLine& line, const Operands& to, const Unit& unit, int64_t chunk) const noexcept {
  const ConvGeometry& g = packed_.problem.geometry;
  const Vectors& v = vectors();
  const int64_t lane = chunk * kLanes;
  line.data = to.scratch + (wide_ ? lane * 4 : 0);
  line.pixel_step = wide_ ? packed_.period * 4 : g.stride[2] * kColumnBytes;
  line.tap_step = g.dilation[2] * column_bytes_;
  line.group_step = group_bytes_;
  line.groups = packed_.lines.groups;
  line.column_taps = g.kernel[2];
  line.lines = packed_.lines.lines;
  line.weights = v.weights.data() + chunk * line.groups * line.column_taps * line.lines * kColumnBytes;
  line.bias = v.bias.data() + lane;
  for (int64_t i = 0; i < line.lines && unit.row + i < shape_.out[1]; ++i) {
    Output& out = line.out[i];
    const int64_t row = (unit.image * shape_.out[0] + unit.plane) * shape_.out[1] + unit.row + i;
    const int64_t pixel = row * shape_.out[2] + unit.begin;
    out.y = to.y + (pixel * shape_.y_pixel_stride + lane) * packed_.y_bytes();
    out.y_row = wide_ ? packed_.period : shape_.y_pixel_stride;
    set_residual(out, packed_.problem.quant, to.residual, pixel * g.c_out + lane);
    out.residual_row = out.addend_row = wide_ ? packed_.period : g.c_out;
    out.multiplier = v.multiplier.data() + lane;
    out.epilogue = &packed_.epilogue;
  }
}

int64_t DepthwiseWork::cost() const noexcept {
  const ConvGeometry& g = packed_.problem.geometry;
  const int64_t out = shape_.n * pixels(shape_.out) * g.c_out;
  return shape_.n * pixels(shape_.in) * g.c_in + out + 2 * out * packed_.problem.taps();
}

std::string DepthwiseWork::details() const {
  return std::to_string(packed_.lines.lines) + " lines, " + std::to_string(packed_.lines.groups) + " groups of taps, " +
         std::to_string(chunks_) + " chunks of " + (wide_ ? "neighbouring pixels" : "channels");
}

// A channel-wise affine map: rows of `period` lanes, the channels of as many pixels as fill whole vectors.
class PackedAffine final : public PackedConv {
 public:
  PackedAffine(const DepthwiseKernel& kernel, Problem problem) : kernel(kernel), problem(std::move(problem)) {
    const int64_t channels = this->problem.geometry.c_in;
    const int64_t whole = std::lcm(channels, kAffineColumns);
    period = whole <= kMostPeriod || whole == channels ? whole : channels;
    const int64_t lanes = ceil_div(period, kAffineColumns) * kAffineColumns;
    vectors.resize(lanes, lanes * 4);
    for (int64_t lane = 0; lane < period; ++lane) {
      const int64_t channel = lane % channels;
      vectors.set(this->problem, lane, channel);
      const auto w = static_cast<int16_t>(this->problem.centered(channel, 0, 0));
      std::memcpy(vectors.weights.data() + lane * 4, &w, sizeof w);
    }
    this->problem.weight = {};
    epilogue = epilogue_of(this->problem);
  }
  std::unique_ptr<Work> plan(const ConvShape& shape) const override;
  size_t packed_bytes() const noexcept override { return vectors.bytes() + problem.lut.entries.size(); }

  const DepthwiseKernel kernel;
  Problem problem;
  int64_t period;
  Vectors vectors;
  Epilogue epilogue;
};

class AffineWork final : public Work {
 public:
  AffineWork(const PackedAffine& packed, const ConvShape& shape)
      : packed_(packed), shape_(shape), pixels_(shape.n * pixels(shape.out)) {
    const int64_t channels = packed.problem.geometry.c_in;
    const bool dense = shape.x_pixel_stride == channels && shape.y_pixel_stride == channels;
    row_pixels_ = dense ? packed.period / channels : 1;
    if (!dense) row_lanes_ = channels;
    if (dense) row_lanes_ = packed.period;
  }

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range range = split(ceil_div(pixels_, row_pixels_), tid, threads);
    const int64_t block = std::max<int64_t>(1, kAffineBlockBytes / row_lanes_);
    for (int64_t row = range.begin; row < range.end; row += block)
      run_rows(in, out, row, std::min(range.end, row + block));
  }
  int64_t cost() const noexcept override { return 4 * pixels_ * packed_.problem.geometry.c_in; }
  int64_t products() const noexcept override { return products_of(packed_.problem, shape_); }
  std::vector<const char*> kernels() const override { return {packed_.kernel.name}; }
  std::string details() const override { return "rows of " + std::to_string(row_pixels_) + " pixels"; }

 private:
  void run_rows(const void* const* in, void* const* out, int64_t begin, int64_t end) const noexcept;

  const PackedAffine& packed_;
  ConvShape shape_;
  int64_t pixels_;
  int64_t row_pixels_;
  int64_t row_lanes_;
};

void AffineWork::run_rows(const void* const* in, void* const* out, int64_t begin, int64_t end) const noexcept {
  const int64_t channels = packed_.problem.geometry.c_in;
  const int64_t y_bytes = packed_.epilogue.f32_output ? 4 : 1;
  const int64_t last = std::min(end * row_pixels_, pixels_) - (end - 1) * row_pixels_;  // pixels of the last row
  AffineLine line;
  line.x_row = row_pixels_ * shape_.x_pixel_stride;
  line.out.y_row = row_pixels_ * shape_.y_pixel_stride;
  line.out.residual_row = line.out.addend_row = row_pixels_ * channels;
  line.out.epilogue = &packed_.epilogue;
  for (int64_t lane = 0; lane < row_lanes_; lane += kAffineColumns) {
    const int64_t columns = std::min(kAffineColumns, row_lanes_ - lane);
    const int64_t in_last = std::clamp<int64_t>(last * channels - lane, 0, columns);
    const auto go = [&](int64_t row, int64_t count, int64_t wanted) {
      if (count <= 0 || wanted <= 0) return;
      line.x = static_cast<const uint8_t*>(in[0]) + row * line.x_row + lane;
      line.out.y = static_cast<std::byte*>(out[0]) + (row * line.out.y_row + lane) * y_bytes;
      if (packed_.problem.quant.residual)
        set_residual(line.out, packed_.problem.quant, in[1], row * line.out.residual_row + lane);
      line.count = count;
      line.out.columns = wanted;
      packed_.kernel.affine(line);
    };
    line.weights = reinterpret_cast<const int16_t*>(packed_.vectors.weights.data() + lane * 4);
    line.bias = packed_.vectors.bias.data() + lane;
    line.out.multiplier = packed_.vectors.multiplier.data() + lane;
    const bool whole = in_last == columns;
    go(begin, end - begin - (whole ? 0 : 1), columns);
    if (!whole) go(end - 1, 1, in_last);
  }
}

std::unique_ptr<Work> PackedAffine::plan(const ConvShape& shape) const {
  check_shape(problem.geometry, shape);
  return std::make_unique<AffineWork>(*this, shape);
}

bool fits_s8(const Problem& p) {
  for (int64_t o = 0; o < p.geometry.c_out; ++o) {
    for (int64_t t = 0; t < p.taps(); ++t) {
      const int32_t w = p.centered(o, t, 0);
      if (w < -128 || w > 127) return false;
    }
  }
  return true;
}

}  // namespace

std::span<const DepthwiseKernel> depthwise_kernels() noexcept {
  return {kKernels, std::size(kKernels) - 1};
}

bool applies(const DepthwiseKernel& kernel, const Problem& problem) noexcept {
  const ConvGeometry& g = problem.geometry;
  if (g.groups != g.c_in || g.groups != g.c_out) return false;
  if (kernel.affine != nullptr) return problem.unit_kernel() && !problem.padded() && pixels(g.stride) == 1;
  // Few channels at stride 1 would leave a sliding kernel lanes without work.
  if (kernel.slide != nullptr && (!slides(kernel, problem) || lane_period(g) != 0)) return false;
  return fits_s8(problem);
}

const DepthwiseKernel* select_depthwise(std::span<const DepthwiseKernel> kernels, const Problem& problem,
                                        Isa isa) noexcept {
  const DepthwiseKernel* best = nullptr;
  const auto better = [](const DepthwiseKernel& a, const DepthwiseKernel& b) {
    return std::tuple(a.affine != nullptr, a.isa, a.slide != nullptr) >
           std::tuple(b.affine != nullptr, b.isa, b.slide != nullptr);
  };
  for (const DepthwiseKernel& kernel : kernels) {
    if (!includes(isa, kernel.isa) || !applies(kernel, problem)) continue;
    if (best == nullptr || better(kernel, *best)) best = &kernel;
  }
  return best;
}

std::unique_ptr<PackedConv> pack_depthwise(const DepthwiseKernel& kernel, Problem problem) {
  if (kernel.affine != nullptr) return std::make_unique<PackedAffine>(kernel, std::move(problem));
  if (kernel.slide != nullptr) return pack_slide(kernel, std::move(problem));
  return std::make_unique<PackedDepthwise>(kernel, std::move(problem));
}

}  // namespace qfx::conv
