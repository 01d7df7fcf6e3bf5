#include "conv/gemm.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "conv/aligned.h"
#include "conv/pairing.h"
#include "core/bytes.h"
#include "core/split.h"

namespace qfx::conv {
namespace {

constexpr GemmKernel kKernels[] = {
#define QFX_CONV_GEMM(name, isa, rows, columns, depth, bytes) {#name, Isa::isa, rows, columns, depth, bytes, 0, name},
#define QFX_CONV_GEMM_S8(name, isa, rows, columns, depth) {#name, Isa::isa, rows, columns, depth, 1, 128, name},
#define QFX_CONV_GEMM_PAIRED(name, isa, rows, columns) {#name, Isa::isa, rows, columns, 4, 1, 0, name, Packing::paired},
#define QFX_CONV_GEMM_STREAMS(name, isa, rows, columns) \
  {#name, Isa::isa, rows, columns, 4, 1, 0, name, Packing::steps, name##_streams},
#include "conv/kernels.inc"
    {"", Isa::scalar, 0, 0, 0, 0, 0, nullptr},
};

constexpr int64_t kBlockBytes = 192 * 1024;  // of activations in flight while the panels pass over them
constexpr int64_t kSlack = 64;               // a tile may read this far past a run

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// The reduction as the kernel walks it: `parts` times over `runs` of `length` contiguous activations.
struct Reduction {
  bool merged;  // a run spans the innermost kernel dim, whose taps are neighbours in memory
  int64_t runs;
  int64_t length;
  int64_t steps;  // that cover the length
  int64_t parts;  // s8 terms that a centred weight is split into
};

// Neighbouring groups that share one panel, so that its columns and steps are filled.
struct Bundle {
  int64_t groups;
  int64_t in;
  int64_t out;
};

struct Panel {
  const GemmKernel* kernel;
  int64_t first_channel;  // of x
  int64_t first_column;   // of y
  int64_t columns;
  int64_t weights;  // byte offset
  int64_t bytes;    // of weights
  int64_t vectors;  // offset into bias and multiplier
  int64_t order;    // offset, where steps are paired
};

Bundle bundle_groups(const Problem& p) {
  int64_t count = 1;
  for (int64_t n = 1; n <= p.geometry.groups && n * p.group_out() <= 16; ++n) {
    if (p.geometry.groups % n == 0) count = n;
  }
  return {count, count * p.group_in(), count * p.group_out()};
}

int64_t weight_parts(const Problem& p) {
  if (p.weight_zero_point.empty()) return 1;
  int64_t parts = 1;
  for (int64_t o = 0; o < p.geometry.c_out; ++o) {
    for (int64_t t = 0; t < p.taps(); ++t) {
      for (int64_t c = 0; c < p.group_in(); ++c) {
        const int32_t w = p.centered(o, t, c);
        parts = std::max<int64_t>(parts, w > 0 ? ceil_div(w, 127) : ceil_div(-w, 128));
      }
    }
  }
  return parts;
}

// Term `part` of `w` as a sum of s8 values.
int32_t weight_part(int32_t w, int64_t part) {
  for (int64_t i = 0; i < part; ++i) w -= std::clamp(w, -128, 127);
  return std::clamp(w, -128, 127);
}

// The bias for sums over x - shift, modulo 2^32.
int32_t shifted_bias(const Problem& p, int64_t o, int shift) {
  auto bias = static_cast<uint32_t>(p.folded_bias[static_cast<size_t>(o)]);
  for (int64_t t = 0; shift != 0 && t < p.taps(); ++t) {
    for (int64_t c = 0; c < p.group_in(); ++c) bias += static_cast<uint32_t>(shift * p.centered(o, t, c));
  }
  return static_cast<int32_t>(bias);
}

Reduction make_reduction(const Problem& p, const GemmKernel& kernel, const Bundle& bundle) {
  const ConvGeometry& g = p.geometry;
  const bool merged = g.groups == 1 && g.kernel[2] > 1 && g.dilation[2] == 1;
  const int64_t length = merged ? g.kernel[2] * g.c_in : bundle.in;
  const int64_t multiple = kernel.isa == Isa::amx ? kTileSteps : 1;
  const int64_t steps = ceil_div(length, kernel.depth * multiple) * multiple;
  return {merged, merged ? g.kernel[0] * g.kernel[1] : p.taps(), length, steps,
          kernel.bytes == 1 ? weight_parts(p) : 1};
}

class PackedGemm final : public PackedConv {
 public:
  PackedGemm(const GemmKernel& kernel, Problem problem, std::span<const GemmKernel> kernels);
  std::unique_ptr<Work> plan(const ConvShape& shape) const override;
  size_t packed_bytes() const noexcept override {
    return weights_.size() + (order_.size() + bias_.size()) * sizeof(int32_t) + multiplier_.size() * sizeof(float) +
           problem_.lut.size();
  }

  const GemmKernel& kernel() const noexcept { return kernel_; }
  const Problem& problem() const noexcept { return problem_; }  // without its weights
  const Reduction& reduction() const noexcept { return reduction_; }
  const std::vector<Panel>& panels() const noexcept { return panels_; }
  const Epilogue& epilogue() const noexcept { return epilogue_; }
  const std::byte* weights(const Panel& panel) const noexcept { return weights_.data() + panel.weights; }
  const int32_t* order(const Panel& panel) const noexcept { return order_.data() + panel.order; }
  const int32_t* bias(const Panel& panel) const noexcept { return bias_.data() + panel.vectors; }
  const float* multiplier(const Panel& panel) const noexcept { return multiplier_.data() + panel.vectors; }

 private:
  void lay_out_panels(const Bundle& bundle, std::span<const GemmKernel> kernels);
  void pack(const Panel& panel, const Bundle& bundle);
  void pack_column(const Panel& panel, const Bundle& bundle, int64_t column);
  void pair_steps();

  GemmKernel kernel_;
  Problem problem_;
  Reduction reduction_;
  Epilogue epilogue_;
  std::vector<Panel> panels_;
  AlignedVector<std::byte> weights_;
  AlignedVector<int32_t> order_;
  AlignedVector<int32_t> bias_;
  AlignedVector<float> multiplier_;
};

PackedGemm::PackedGemm(const GemmKernel& kernel, Problem problem, std::span<const GemmKernel> kernels)
    : kernel_(kernel), problem_(std::move(problem)) {
  const Bundle bundle = bundle_groups(problem_);
  reduction_ = make_reduction(problem_, kernel_, bundle);
  lay_out_panels(bundle, kernels);
  for (const Panel& panel : panels_) pack(panel, bundle);
  if (kernel_.packing == Packing::paired) pair_steps();
  problem_.weight = {};
  problem_.weight_zero_point = {};
  problem_.folded_bias = {};
  epilogue_ = make_epilogue(problem_);
}

void PackedGemm::lay_out_panels(const Bundle& bundle, std::span<const GemmKernel> kernels) {
  int64_t weights = 0, vectors = 0;
  for (int64_t first = 0; first < problem_.geometry.groups; first += bundle.groups) {
    const int64_t channel = first * problem_.group_in(), column = first * problem_.group_out();
    for (int64_t done = 0; done < bundle.out; done += kernel_.columns) {
      const int64_t columns = std::min<int64_t>(kernel_.columns, bundle.out - done);
      const GemmKernel& kernel = kernel_for(kernel_, kernels, columns);
      const int64_t steps = reduction_.parts * reduction_.runs * reduction_.steps;
      const int64_t bytes = steps * kernel.columns * kernel.depth * kernel.bytes;
      panels_.push_back({&kernel, channel, column + done, columns, weights, bytes, vectors, 0});
      weights += bytes;
      vectors += kernel.columns;
    }
  }
  weights_.resize(static_cast<size_t>(weights));
  bias_.resize(static_cast<size_t>(vectors));
  multiplier_.resize(static_cast<size_t>(vectors));
}

void PackedGemm::pack(const Panel& panel, const Bundle& bundle) {
  for (int64_t i = 0; i < panel.columns; ++i) {
    const auto o = static_cast<size_t>(panel.first_column + i);
    bias_[static_cast<size_t>(panel.vectors + i)] = shifted_bias(problem_, panel.first_column + i, kernel_.shift);
    multiplier_[static_cast<size_t>(panel.vectors + i)] = problem_.multiplier[o];
    pack_column(panel, bundle, i);
  }
}

// The weights of one output channel. In each run they are contiguous in canonical layout too, from the first input
// channel of its group on; the run's other channels, and those past its end, keep zero weights.
void PackedGemm::pack_column(const Panel& panel, const Bundle& bundle, int64_t column) {
  const GemmKernel& kernel = *panel.kernel;
  const int64_t o = panel.first_column + column;
  const int64_t first = o / problem_.group_out() % bundle.groups * problem_.group_in();
  const int64_t length = reduction_.merged ? reduction_.length : problem_.group_in();
  const int32_t zero_point =
      problem_.weight_zero_point.empty() ? 0 : problem_.weight_zero_point[static_cast<size_t>(o)];
  const int64_t depth = kernel.depth;
  const int64_t step_bytes = kernel.columns * depth * kernel.bytes;
  const bool plain = kernel.bytes == 1 && depth == 4 && reduction_.parts == 1 && zero_point == 0;
  std::byte* run = weights_.data() + panel.weights + column * kernel.depth * kernel.bytes;
  for (int64_t part = 0; part < reduction_.parts; ++part) {
    const int8_t* weight = problem_.weight.data() + o * reduction_.runs * length;
    for (int64_t r = 0; r < reduction_.runs; ++r, run += reduction_.steps * step_bytes, weight += length) {
      std::byte* step = run + first / depth * step_bytes;
      for (int64_t e = -(first % depth); e < length; e += depth, step += step_bytes) {
        if (plain && e >= 0 && e + depth <= length) {
          std::memcpy(step, weight + e, 4);
          continue;
        }
        for (int64_t i = std::max<int64_t>(0, -e); i < std::min(depth, length - e); ++i) {
          const int32_t w = weight[e + i] - zero_point;
          if (kernel.bytes == 1) {
            step[i] = static_cast<std::byte>(weight_part(w, part));
          } else {
            const auto wide = static_cast<int16_t>(w);
            std::memcpy(step + 2 * i, &wide, sizeof wide);
          }
        }
      }
    }
  }
}

void PackedGemm::pair_steps() {
  std::vector<int32_t> order;
  std::vector<std::byte> weights;
  weights.reserve(2 * weights_.size());
  for (Panel& panel : panels_) {
    const int64_t run_bytes = panel.bytes / (reduction_.parts * reduction_.runs);
    const auto* packed = reinterpret_cast<const int8_t*>(weights_.data() + panel.weights);
    panel.weights = static_cast<int64_t>(weights.size());
    panel.order = static_cast<int64_t>(order.size());
    for (int64_t run = 0; run < panel.bytes; run += run_bytes) {
      pair_run(packed + run, reduction_.steps, panel.kernel->columns, order, weights, bias_.data() + panel.vectors);
    }
    panel.bytes = static_cast<int64_t>(weights.size()) - panel.weights;
  }
  order_.assign(order.begin(), order.end());
  weights_.assign(weights.begin(), weights.end());
}

// Output lines [first, last) by output columns [begin, end).
struct Block {
  int64_t first, last, begin, end;
};

class GemmWork final : public Work {
 public:
  GemmWork(const PackedGemm& packed, const ConvShape& shape);

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override;
  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(copy_bytes_); }
  int64_t cost() const noexcept override;
  std::string describe() const override;

 private:
  struct Part {
    Range panels;
    Range tiles;
  };
  struct Operands {
    const std::byte* x;
    const uint8_t* residual;
    std::byte* y;
    std::byte* scratch;
  };

  void plan_source();
  void plan_blocks();
  void plan_taps();
  Part part_of(int tid, int threads) const noexcept;
  void run_lines(const Operands& to, Range panels, Block lines) const noexcept;
  void run_block(const Operands& to, Range panels, const Block& block) const noexcept;
  int64_t run_streams(const Operands& to, Range panels, const Block& block) const noexcept;
  GemmTile tile_of_block() const noexcept;
  void set_panel(GemmTile& tile, const Panel& panel) const noexcept;
  void set_line(GemmTile& tile, const Operands& to, const Block& block, const Panel& panel,
                int64_t line) const noexcept;
  void fill_copy(const Operands& to, const Block& block) const noexcept;
  void fill_plane(const std::byte* x, std::byte* copy, const Block& block) const noexcept;
  void copy_line(const std::byte* x, std::byte* to, int64_t plane, int64_t row, int64_t column,
                 int64_t count) const noexcept;
  const std::byte* source(const Operands& to, const Block& block, int64_t line) const noexcept;
  int64_t tile_start(int64_t tile) const noexcept { return width_ * tile / line_tiles_; }

  const PackedGemm& packed_;
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

std::unique_ptr<Work> PackedGemm::plan(const ConvShape& shape) const {
  check_shape(problem_.geometry, shape);
  return std::make_unique<GemmWork>(*this, shape);
}

GemmWork::GemmWork(const PackedGemm& packed, const ConvShape& shape) : packed_(packed), shape_(shape) {
  plan_source();
  plan_blocks();
  plan_taps();
}

void GemmWork::plan_source() {
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
void GemmWork::plan_blocks() {
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
  copy_bytes_ = block_planes_ * copy_plane_bytes_ + kSlack;
}

void GemmWork::plan_taps() {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t pixel = copies_ ? g.c_in * packed_.kernel().bytes : shape_.x_pixel_stride;
  const int64_t line = copies_ ? copy_width_ : shape_.in[2];
  const int64_t plane = copies_ ? copy_rows_ : shape_.in[1] * g.dilation[0];
  const int64_t inner = packed_.reduction().merged ? 1 : g.kernel[2];
  for (int64_t part = 0; part < packed_.reduction().parts; ++part) {
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
GemmWork::Part GemmWork::part_of(int tid, int threads) const noexcept {
  const auto panels = static_cast<int64_t>(packed_.panels().size());
  const int64_t tiles = lines_ * line_tiles_;
  if (slowest_share(panels, threads) < kClearlyLess * slowest_share(tiles, threads)) {
    return {split(panels, tid, threads), {0, tiles}};
  }
  return {{0, panels}, split(tiles, tid, threads)};
}

void GemmWork::run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept {
  const Part part = part_of(tid, threads);
  if (part.panels.begin == part.panels.end) return;
  const bool residual = packed_.problem().quant.residual;
  const Operands to{static_cast<const std::byte*>(in[0]), residual ? static_cast<const uint8_t*>(in[1]) : nullptr,
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
void GemmWork::run_lines(const Operands& to, Range panels, Block lines) const noexcept {
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
GemmTile GemmWork::tile_of_block() const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  GemmTile tile;
  tile.a_row = g.stride[2] * (copies_ ? g.c_in * packed_.kernel().bytes : shape_.x_pixel_stride);
  tile.taps = taps_.data();
  tile.tap_count = static_cast<int64_t>(taps_.size());
  tile.steps = packed_.reduction().steps;
  tile.out.y_row = shape_.y_pixel_stride;
  tile.out.residual_row = g.c_out;
  tile.out.epilogue = &packed_.epilogue();
  return tile;
}

void GemmWork::set_panel(GemmTile& tile, const Panel& panel) const noexcept {
  tile.b = packed_.weights(panel);
  tile.order = packed_.order(panel);
  tile.bias = packed_.bias(panel);
  tile.out.multiplier = packed_.multiplier(panel);
  tile.out.columns = panel.columns;
}

void GemmWork::set_line(GemmTile& tile, const Operands& to, const Block& block, const Panel& panel,
                        int64_t line) const noexcept {
  const int64_t at = line * width_ + tile_start(block.begin);
  const int64_t y_bytes = packed_.epilogue().f32_output ? 4 : 1;
  const int64_t c_out = packed_.problem().geometry.c_out;
  tile.a = source(to, block, line) + panel.first_channel * packed_.kernel().bytes;
  tile.out.y = to.y + (at * shape_.y_pixel_stride + panel.first_column) * y_bytes;
  tile.out.residual = to.residual == nullptr ? nullptr : to.residual + at * c_out + panel.first_column;
}

void GemmWork::run_block(const Operands& to, Range panels, const Block& block) const noexcept {
  const int64_t rows = tile_start(block.end) - tile_start(block.begin);
  if (copies_) fill_copy(to, block);
  if (rows == 1 && block.last - block.first == 1) panels.begin = run_streams(to, panels, block);
  GemmTile tile = tile_of_block();
  const int64_t fetched = ceil_div(rows, packed_.kernel().rows) * tile.tap_count * tile.steps * kAheadBytes;
  for (int64_t index = panels.begin; index < panels.end; ++index) {
    const Panel& panel = packed_.panels()[static_cast<size_t>(index)];
    set_panel(tile, panel);
    const Panel& next = packed_.panels()[static_cast<size_t>(index + 1 < panels.end ? index + 1 : panels.begin)];
    tile.ahead = packed_.weights(next);
    tile.ahead_bytes = &next == &panel ? 0 : next.bytes;
    for (int64_t line = block.first; line < block.last; ++line) {
      set_line(tile, to, block, panel, line);
      panel.kernel->run(tile, rows);
      const int64_t now = std::min(fetched, tile.ahead_bytes);
      tile.ahead += now;
      tile.ahead_bytes -= now;
    }
  }
}

// A single row of panels that are far apart, several at once. Returns the first panel that is left.
int64_t GemmWork::run_streams(const Operands& to, Range panels, const Block& block) const noexcept {
  const auto& all = packed_.panels();
  const GemmKernel& kernel = *all[static_cast<size_t>(panels.begin)].kernel;
  if (kernel.streams == nullptr || packed_.problem().geometry.groups != 1) return panels.begin;
  int64_t count = panels.end - panels.begin;
  if (all[static_cast<size_t>(panels.end - 1)].kernel != &kernel) --count;  // the last one may be narrower
  const int64_t apart = count / kStreams;
  GemmTile tiles[kStreams];
  std::fill_n(tiles, kStreams, tile_of_block());
  for (int64_t i = 0; i < apart; ++i) {
    for (int64_t s = 0; s < kStreams; ++s) {
      const Panel& panel = all[static_cast<size_t>(panels.begin + s * apart + i)];
      set_panel(tiles[s], panel);
      set_line(tiles[s], to, block, panel, block.first);
    }
    kernel.streams(tiles);
  }
  return panels.begin + apart * kStreams;
}

// The first activation of the first tap of a block's line.
const std::byte* GemmWork::source(const Operands& to, const Block& block, int64_t line) const noexcept {
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

void GemmWork::fill_copy(const Operands& to, const Block& block) const noexcept {
  std::byte* copy = to.scratch;
  for (int64_t line = block.first; line < block.last; copy += copy_plane_bytes_) {
    const int64_t next = std::min((line / shape_.out[1] + 1) * shape_.out[1], block.last);
    fill_plane(to.x, copy, {line, next, block.begin, block.end});
    line = next;
  }
}

// The part of a block that lies in one output plane.
void GemmWork::fill_plane(const std::byte* x, std::byte* copy, const Block& block) const noexcept {
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

void GemmWork::copy_line(const std::byte* x, std::byte* to, int64_t plane, int64_t row, int64_t column,
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

int64_t GemmWork::cost() const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t in = shape_.n * pixels(shape_.in) * g.c_in, out = lines_ * width_ * g.c_out;
  return in + out + lines_ * width_ * static_cast<int64_t>(packed_.packed_bytes());
}

std::string GemmWork::describe() const {
  const Reduction& r = packed_.reduction();
  std::string text;
  for (const Panel& panel : packed_.panels()) {
    if (text.find(panel.kernel->name) != std::string::npos) continue;
    text += (text.empty() ? "" : " + ") + std::string(panel.kernel->name);
  }
  text += ": " + std::to_string(packed_.panels().size()) + " panels, " + std::to_string(r.runs) + " runs of " +
          std::to_string(r.length);
  if (r.parts > 1) text += ", weights in " + std::to_string(r.parts) + " terms";
  if (copies_) text += ", blocks copied (" + std::to_string(copy_bytes_) + " bytes)";
  return text;
}

}  // namespace

std::span<const GemmKernel> gemm_kernels() noexcept {
  return {kKernels, std::size(kKernels) - 1};
}

const GemmKernel& kernel_for(const GemmKernel& main, std::span<const GemmKernel> kernels, int64_t columns) {
  const GemmKernel* best = &main;
  for (const GemmKernel& k : kernels) {
    const bool same = k.isa == main.isa && k.depth == main.depth && k.bytes == main.bytes && k.shift == main.shift &&
                      k.packing == main.packing && k.rows >= main.rows;
    if (same && k.columns >= columns && k.columns < best->columns) best = &k;
  }
  return *best;
}

std::unique_ptr<PackedConv> pack_gemm(const GemmKernel& kernel, Problem problem, std::span<const GemmKernel> kernels) {
  return std::make_unique<PackedGemm>(kernel, std::move(problem), kernels);
}

}  // namespace qfx::conv
