#include "conv/implicit_gemm.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/kernel.h"
#include "core/split.h"
#include "gemm/weights.h"

namespace qfx::conv {
namespace {

using gemm::Panel;
using gemm::Tile;
using gemm::TileKernel;
using gemm::Weights;

constexpr int64_t kBlockBytes = 192 * 1024;  // of activations in flight while the panels pass over them

// The reduction: `runs` times over `length` contiguous activations.
struct Reduction {
  bool merged;  // a run spans the innermost kernel dim, whose taps are neighbours in memory
  int64_t runs;
  int64_t length;
};

// Neighbouring groups that share one panel, so that its columns and steps are filled.
struct Bundle {
  int64_t groups;
  int64_t in;
  int64_t out;
};

Bundle bundle_groups(const Problem& p) {
  int64_t count = 1;
  for (int64_t n = 1; n <= p.geometry.groups && n * p.group_out() <= 16; ++n) {
    if (p.geometry.groups % n == 0) count = n;
  }
  return {count, count * p.group_in(), count * p.group_out()};
}

Reduction reduction_of(const Problem& p) {
  const ConvGeometry& g = p.geometry;
  const bool merged = g.groups == 1 && g.kernel[2] > 1 && g.dilation[2] == 1;
  if (merged) return {true, g.kernel[0] * g.kernel[1], g.kernel[2] * g.c_in};
  return {false, p.taps(), bundle_groups(p).in};
}

// In each run the weights of an output channel are contiguous in canonical layout too, from the first input channel of
// its group on.
gemm::Matrix matrix_of(const Problem& p) {
  const Bundle bundle = bundle_groups(p);
  const Reduction r = reduction_of(p);
  gemm::Matrix matrix{{}, bundle.out, r.runs, r.length, r.merged ? r.length : p.group_in()};
  for (int64_t o = 0; o < p.geometry.c_out; ++o) {
    const int64_t first = o / p.group_out() % bundle.groups * p.group_in();
    const int32_t zero_point = p.weight_zero_point.empty() ? 0 : p.weight_zero_point[static_cast<size_t>(o)];
    matrix.columns.push_back({p.weight.data() + o * r.runs * matrix.length, first, zero_point});
  }
  return matrix;
}

class ImplicitGemm final : public PackedConv {
 public:
  ImplicitGemm(const TileKernel& kernel, Problem problem, std::span<const TileKernel> kernels)
      : problem_(std::move(problem)),
        bundle_(bundle_groups(problem_)),
        reduction_(reduction_of(problem_)),
        epilogue_(epilogue_of(problem_)),
        weights_(kernel, matrix_of(problem_), kernels),
        starts_(weights_.starts(problem_.folded_bias)),
        multiplier_(weights_.laid_out<float>(problem_.multiplier)) {
    problem_.weight = {};
    problem_.weight_zero_point = {};
    problem_.folded_bias = {};
  }

  std::unique_ptr<Work> plan(const ConvShape& shape) const override;
  size_t packed_bytes() const noexcept override {
    return weights_.bytes() + starts_.size() * sizeof(int32_t) + multiplier_.size() * sizeof(float) +
           problem_.lut.entries.size();
  }

  const TileKernel& kernel() const noexcept { return weights_.kernel(); }
  const Problem& problem() const noexcept { return problem_; }  // without its weights
  const Reduction& reduction() const noexcept { return reduction_; }
  const gemm::Epilogue& epilogue() const noexcept { return epilogue_; }
  const Weights& weights() const noexcept { return weights_; }
  const int32_t* starts(const Panel& panel) const noexcept { return starts_.data() + panel.vectors; }
  const float* multiplier(const Panel& panel) const noexcept { return multiplier_.data() + panel.vectors; }
  int64_t first_channel(const Panel& panel) const noexcept { return panel.first / bundle_.out * bundle_.in; }

 private:
  Problem problem_;
  Bundle bundle_;
  Reduction reduction_;
  gemm::Epilogue epilogue_;
  Weights weights_;
  AlignedVector<int32_t> starts_;
  AlignedVector<float> multiplier_;
};

// Output lines [first, last) by output columns [begin, end).
struct Block {
  int64_t first, last, begin, end;
};

class ImplicitGemmWork final : public Work {
 public:
  ImplicitGemmWork(const ImplicitGemm& packed, const ConvShape& shape);

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override;
  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(copy_bytes_); }
  int64_t cost() const noexcept override;
  int64_t products() const noexcept override { return products_of(packed_.problem(), shape_); }
  std::vector<const char*> kernels() const override { return names_of_kernels(packed_.weights().panels()); }
  std::string details() const override;

 private:
  struct Part {
    Range panels;
    Range tiles;
  };
  struct Operands {
    const std::byte* x;
    const void* residual;
    std::byte* y;
    std::byte* scratch;
  };

  void plan_source();
  void plan_blocks();
  void plan_taps();
  Part part_of(int tid, int threads) const noexcept;
  void run_lines(const Operands& to, Range panels, Block lines) const noexcept;
  void run_block(const Operands& to, Range panels, const Block& block) const noexcept;
  Tile tile_of_block() const noexcept;
  void set_columns(Tile& tile, const Panel& panel) const noexcept;
  void set_line(Tile& tile, const Operands& to, const Block& block, const Panel& panel, int64_t line) const noexcept;
  void fill_copy(const Operands& to, const Block& block) const noexcept;
  void fill_plane(const std::byte* x, std::byte* copy, const Block& block) const noexcept;
  void copy_line(const std::byte* x, std::byte* to, int64_t plane, int64_t row, int64_t column,
                 int64_t count) const noexcept;
  const std::byte* source(const Operands& to, const Block& block, int64_t line) const noexcept;
  int64_t tile_start(int64_t tile) const noexcept { return width_ * tile / line_tiles_; }

  const ImplicitGemm& packed_;
  ConvShape shape_;
  bool copies_ = false;  // x reaches the kernel through a padded (and widened) copy of a block
  int64_t lines_ = 0;    // output lines of all images
  int64_t width_ = 0;    // pixels in each
  int64_t line_tiles_ = 1;
  int64_t block_lines_ = 1;
  int64_t block_tiles_ = 1;
  int64_t block_planes_ = 1;                // more than one: of whole planes
  int64_t copy_rows_ = 0, copy_width_ = 0;  // extents of the copy; one plane a tap of dim 0
  int64_t copy_plane_bytes_ = 0;            // for one output plane
  int64_t copy_bytes_ = 0;
  std::vector<int64_t> taps_;
};

std::unique_ptr<Work> ImplicitGemm::plan(const ConvShape& shape) const {
  check_shape(problem_.geometry, shape);
  return std::make_unique<ImplicitGemmWork>(*this, shape);
}

ImplicitGemmWork::ImplicitGemmWork(const ImplicitGemm& packed, const ConvShape& shape)
    : packed_(packed), shape_(shape) {
  plan_source();
  plan_blocks();
  plan_taps();
}

void ImplicitGemmWork::plan_source() {
  const Problem& p = packed_.problem();
  const ConvGeometry& g = p.geometry;
  const bool dense_runs = !packed_.reduction().merged || shape_.x_pixel_stride == g.c_in;
  copies_ = packed_.kernel().bytes != 1 || p.padded() || !dense_runs;
  if (p.unit_kernel() && !p.padded() && pixels(g.stride) == 1) {  // one line of all pixels
    shape_.in[2] = shape_.out[2] = shape_.n * pixels(shape_.out);
    shape_.n = shape_.in[0] = shape_.in[1] = shape_.out[0] = shape_.out[1] = 1;
  }
  width_ = shape_.out[2];
  lines_ = width_ == 0 ? 0 : shape_.n * shape_.out[0] * shape_.out[1];
  copies_ = copies_ && lines_ > 0;
  line_tiles_ = std::max<int64_t>(1, ceil_div(width_, packed_.kernel().rows));
}

// As many whole planes, or whole lines of one plane, as the budget holds; or a part of one line.
void ImplicitGemmWork::plan_blocks() {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t bytes = packed_.kernel().bytes;
  const int64_t tile = std::max<int64_t>(1, ceil_div(width_, line_tiles_));
  const int64_t pixel_bytes = g.stride[1] * g.stride[2] * g.c_in * bytes + g.c_out;
  const int64_t halo = 1 + (copies_ ? (g.kernel[1] - 1) * g.dilation[1] / g.stride[1] : 0);
  const int64_t line_bytes = std::max<int64_t>(1, width_ * pixel_bytes);
  block_lines_ = std::clamp<int64_t>(kBlockBytes / line_bytes - halo + 1, 1, std::max<int64_t>(1, shape_.out[1]));
  block_tiles_ = std::clamp<int64_t>(kBlockBytes / (tile * pixel_bytes * halo), 4, std::max<int64_t>(4, line_tiles_));
  if (block_lines_ > 1 || block_tiles_ > line_tiles_) block_tiles_ = line_tiles_;
  if (block_lines_ == shape_.out[1] && block_tiles_ == line_tiles_) {
    const int64_t planes = kBlockBytes / ((block_lines_ + halo - 1) * line_bytes);
    block_planes_ = std::clamp<int64_t>(planes, 1, std::max<int64_t>(1, shape_.n * shape_.out[0]));
  }
  if (!copies_) return;
  const int64_t block_width = std::min(width_, block_tiles_ * tile);
  copy_rows_ = (block_lines_ - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
  copy_width_ = (block_width - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  copy_plane_bytes_ = g.kernel[0] * copy_rows_ * copy_width_ * g.c_in * bytes;
  copy_bytes_ = block_planes_ * copy_plane_bytes_ + gemm::kReadSlack;
}

void ImplicitGemmWork::plan_taps() {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t pixel = copies_ ? g.c_in * packed_.kernel().bytes : shape_.x_pixel_stride;
  const int64_t line = copies_ ? copy_width_ : shape_.in[2];
  const int64_t plane = copies_ ? copy_rows_ : shape_.in[1] * g.dilation[0];
  const int64_t inner = packed_.reduction().merged ? 1 : g.kernel[2];
  for (int64_t part = 0; part < packed_.weights().parts(); ++part) {
    for (int64_t k0 = 0; k0 < g.kernel[0]; ++k0) {
      for (int64_t k1 = 0; k1 < g.kernel[1]; ++k1) {
        for (int64_t k2 = 0; k2 < inner; ++k2) {
          taps_.push_back(((k0 * plane + k1 * g.dilation[1]) * line + k2 * g.dilation[2]) * pixel);
        }
      }
    }
  }
}

// Rows, which the thread's neighbours in time split in the same way, so that what a thread reads lies in its own
// caches; panels only where rows would leave the slowest thread clearly more to do.
ImplicitGemmWork::Part ImplicitGemmWork::part_of(int tid, int threads) const noexcept {
  const auto panels = packed_.weights().panel_count();
  const int64_t tiles = lines_ * line_tiles_;
  if (slowest_share(panels, threads) < kClearlyLess * slowest_share(tiles, threads)) {
    return {split(panels, tid, threads), {0, tiles}};
  }
  return {{0, panels}, split(tiles, tid, threads)};
}

void ImplicitGemmWork::run(const void* const* in, void* const* out, std::byte* scratch, int tid,
                           int threads) const noexcept {
  const Part part = part_of(tid, threads);
  if (part.panels.begin == part.panels.end) return;
  const Operands to{static_cast<const std::byte*>(in[0]), packed_.problem().quant.residual ? in[1] : nullptr,
                    static_cast<std::byte*>(out[0]), scratch};
  for (int64_t at = part.tiles.begin; at < part.tiles.end;) {  // the rest of a line, whole lines, the start of one
    const int64_t line = at / line_tiles_, tile = at % line_tiles_;
    const int64_t whole = tile == 0 ? (part.tiles.end - at) / line_tiles_ : 0;
    const int64_t last_tile = whole > 0 ? line_tiles_ : std::min(line_tiles_, tile + part.tiles.end - at);
    run_lines(to, part.panels, {line, line + std::max<int64_t>(1, whole), tile, last_tile});
    at = (line + std::max<int64_t>(1, whole) - 1) * line_tiles_ + last_tile;
  }
}

// `lines` counts its columns in tiles.
void ImplicitGemmWork::run_lines(const Operands& to, Range panels, Block lines) const noexcept {
  for (int64_t line = lines.first; line < lines.last;) {
    const int64_t planes_end = (line / shape_.out[1] + block_planes_) * shape_.out[1];
    const int64_t next = std::min({line + block_lines_ * block_planes_, lines.last, planes_end});
    for (int64_t tile = lines.begin; tile < lines.end; tile += block_tiles_) {
      run_block(to, panels, {line, next, tile, std::min(lines.end, tile + block_tiles_)});
    }
    line = next;
  }
}

// What the tiles of all panels have in common.
Tile ImplicitGemmWork::tile_of_block() const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  Tile tile;
  tile.a_row = g.stride[2] * (copies_ ? g.c_in * packed_.kernel().bytes : shape_.x_pixel_stride);
  tile.taps = taps_.data();
  tile.tap_count = static_cast<int64_t>(taps_.size());
  tile.steps = packed_.weights().steps();
  tile.out.y_row = shape_.y_pixel_stride;
  tile.out.residual_row = tile.out.addend_row = g.c_out;
  tile.out.epilogue = &packed_.epilogue();
  return tile;
}

// What a panel's columns have; its place in a line.
void ImplicitGemmWork::set_columns(Tile& tile, const Panel& panel) const noexcept {
  tile.start = packed_.starts(panel);
  tile.out.multiplier = packed_.multiplier(panel);
}

void ImplicitGemmWork::set_line(Tile& tile, const Operands& to, const Block& block, const Panel& panel,
                                int64_t line) const noexcept {
  const int64_t at = line * width_ + tile_start(block.begin);
  const int64_t y_bytes = packed_.epilogue().f32_output ? 4 : 1;
  const int64_t c_out = packed_.problem().geometry.c_out;
  tile.a = source(to, block, line) + packed_.first_channel(panel) * packed_.kernel().bytes;
  tile.out.y = to.y + (at * shape_.y_pixel_stride + panel.first) * y_bytes;
  set_residual(tile.out, packed_.problem().quant, to.residual, at * c_out + panel.first);
}

void ImplicitGemmWork::run_block(const Operands& to, Range panels, const Block& block) const noexcept {
  const int64_t rows = tile_start(block.end) - tile_start(block.begin);
  if (copies_) fill_copy(to, block);
  Tile common = tile_of_block();
  if (rows == 1 && block.last - block.first == 1 && packed_.problem().geometry.groups == 1) {
    panels.begin = packed_.weights().in_streams(panels, common, [&](Tile& tile, const Panel& panel) {
      set_columns(tile, panel);
      set_line(tile, to, block, panel, block.first);
    });
  }
  packed_.weights().for_each_panel(panels, common, rows, [&](Tile& tile, const Panel& panel, int64_t fetched) {
    set_columns(tile, panel);
    for (int64_t line = block.first; line < block.last; ++line) {
      set_line(tile, to, block, panel, line);
      panel.kernel->run(tile, rows);
      const int64_t now = std::min(fetched, tile.ahead_bytes);
      tile.ahead += now;
      tile.ahead_bytes -= now;
    }
  });
}

// The first activation of the first tap of a block's line.
const std::byte* ImplicitGemmWork::source(const Operands& to, const Block& block, int64_t line) const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  if (copies_) {
    const int64_t plane = line / shape_.out[1];
    const int64_t in_plane = line - std::max(block.first, plane * shape_.out[1]);
    return to.scratch + (plane - block.first / shape_.out[1]) * copy_plane_bytes_ +
           in_plane * g.stride[1] * copy_width_ * g.c_in * packed_.kernel().bytes;
  }
  const int64_t row = line % shape_.out[1] * g.stride[1];
  const int64_t plane = line / shape_.out[1] % shape_.out[0] * g.stride[0];
  const int64_t image = line / shape_.out[1] / shape_.out[0];
  const int64_t column = tile_start(block.begin) * g.stride[2];
  return to.x + (((image * shape_.in[0] + plane) * shape_.in[1] + row) * shape_.in[2] + column) * shape_.x_pixel_stride;
}

void ImplicitGemmWork::fill_copy(const Operands& to, const Block& block) const noexcept {
  std::byte* copy = to.scratch;
  for (int64_t line = block.first; line < block.last; copy += copy_plane_bytes_) {
    const int64_t next = std::min((line / shape_.out[1] + 1) * shape_.out[1], block.last);
    fill_plane(to.x, copy, {line, next, block.begin, block.end});
    line = next;
  }
}

// The part of a block that lies in one output plane.
void ImplicitGemmWork::fill_plane(const std::byte* x, std::byte* copy, const Block& block) const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t plane = block.first / shape_.out[1] % shape_.out[0] * g.stride[0] - g.pad_lo[0];
  const int64_t image = block.first / shape_.out[1] / shape_.out[0];
  const int64_t row = block.first % shape_.out[1] * g.stride[1] - rows_above(g, shape_);
  const int64_t rows = (block.last - block.first - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
  const int64_t start = tile_start(block.begin), end = tile_start(block.end);
  const int64_t count = (end - start - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
  const int64_t line_bytes = copy_width_ * g.c_in * packed_.kernel().bytes;
  x += image * pixels(shape_.in) * shape_.x_pixel_stride;
  for (int64_t k = 0; k < g.kernel[0]; ++k) {
    for (int64_t i = 0; i < rows; ++i) {
      copy_line(x, copy + (k * copy_rows_ + i) * line_bytes, plane + k * g.dilation[0], row + i,
                start * g.stride[2] - g.pad_lo[2], count);
    }
  }
}

template <class T>
void fill(T* to, int64_t count, T value) noexcept {
  std::fill_n(to, std::max<int64_t>(0, count), value);
}

template <class T>
void copy_pixels(const uint8_t* x, int64_t x_stride, T* to, int64_t channels, int64_t count) noexcept {
  if (count <= 0) return;
  if (x_stride == channels) {
    channels *= count;
    count = 1;
  }
  for (int64_t i = 0; i < count; ++i, x += x_stride, to += channels) {
    if constexpr (sizeof(T) == 1) {
      qfx::copy_bytes(to, x, channels);
    } else {
      for (int64_t c = 0; c < channels; ++c) to[c] = x[c];
    }
  }
}

// `count` pixels of the padded line that starts at `column`.
template <class T>
void padded_line(const uint8_t* line, int64_t x_stride, int64_t channels, int64_t in, int64_t column, int64_t count,
                 T padding, T* to) noexcept {
  const int64_t begin = std::clamp<int64_t>(-column, 0, count);
  const int64_t end = std::clamp<int64_t>(in - column, begin, count);
  fill(to, begin * channels, padding);
  copy_pixels(line + (column + begin) * x_stride, x_stride, to + begin * channels, channels, end - begin);
  fill(to + end * channels, (count - end) * channels, padding);
}

void ImplicitGemmWork::copy_line(const std::byte* x, std::byte* to, int64_t plane, int64_t row, int64_t column,
                                 int64_t count) const noexcept {
  const Problem& p = packed_.problem();
  const bool inside = plane >= 0 && plane < shape_.in[0] && row >= 0 && row < shape_.in[1];
  const int64_t in = inside ? shape_.in[2] : 0;
  const int64_t line = inside ? (plane * shape_.in[1] + row) * shape_.in[2] : 0;
  const auto* from = reinterpret_cast<const uint8_t*>(x) + line * shape_.x_pixel_stride;
  const auto go = [&](auto padding, auto* typed) {
    padded_line(from, shape_.x_pixel_stride, p.geometry.c_in, in, column, count, padding, typed);
  };
  const int32_t padding = p.quant.x_zero_point;
  if (packed_.kernel().bytes == 1) {
    go(static_cast<uint8_t>(padding), reinterpret_cast<uint8_t*>(to));
  } else {
    go(static_cast<int16_t>(padding), reinterpret_cast<int16_t*>(to));
  }
}

int64_t ImplicitGemmWork::cost() const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t in = shape_.n * pixels(shape_.in) * g.c_in, out = lines_ * width_ * g.c_out;
  return in + out + lines_ * width_ * static_cast<int64_t>(packed_.packed_bytes());
}

std::string ImplicitGemmWork::details() const {
  const Weights& weights = packed_.weights();
  const Reduction& r = packed_.reduction();
  std::string text = std::to_string(weights.panel_count()) + " panels, " + std::to_string(r.runs) + " runs of " +
                     std::to_string(r.length);
  if (weights.parts() > 1) text += ", weights in " + std::to_string(weights.parts()) + " terms";
  if (copies_) text += ", blocks copied (" + std::to_string(copy_bytes_) + " bytes)";
  return text;
}

}  // namespace

gemm::Demand demand_of(const Problem& problem) noexcept {
  const ConvGeometry& g = problem.geometry;
  gemm::Demand demand;
  demand.columns = problem.group_out();
  demand.reduction = problem.taps() * problem.group_in();
  demand.run = g.groups == 1 && g.dilation[2] == 1 ? g.kernel[2] * g.c_in : problem.group_in();
  demand.window = !problem.unit_kernel();
  demand.single_rows = g.linear                ? gemm::SingleRows::often
                       : problem.unit_kernel() ? gemm::SingleRows::seldom
                                               : gemm::SingleRows::never;
  return demand;
}

std::unique_ptr<PackedConv> pack_implicit_gemm(const TileKernel& kernel, Problem problem,
                                               std::span<const TileKernel> kernels) {
  return std::make_unique<ImplicitGemm>(kernel, std::move(problem), kernels);
}

}  // namespace qfx::conv
