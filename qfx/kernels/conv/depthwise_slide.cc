#include "conv/depthwise_slide.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/aligned.h"
#include "core/split.h"

namespace qfx::conv {
namespace {

constexpr int64_t kBlockColumns = 112;  // of x under a block of outputs
constexpr int64_t kUnitChunks = 4;      // of channels, for which lines of x are read together
constexpr int64_t kVectors = 4;

struct Tap {
  int64_t row, column;
};

// The tap of byte `byte` of dot product `dot`; a row past the window's: none.
Tap tap_of(int64_t window, int64_t stride, int64_t dot, int64_t byte) {
  const Tap none{window, 0};
  if (dot < window) return {byte, dot};
  if (window == 7) return {4 + byte, dot - window};
  if (dot == 5) return {4, 1 + byte};
  return byte == stride - 1 ? Tap{4, 0} : none;  // where the columns 1 to 4 of the output before have it
}

// Every chunk's [dot products][vectors][lanes][4] weights, [vectors][lanes] biases and as many multipliers.
class PackedSlide final : public PackedConv {
 public:
  PackedSlide(const DepthwiseKernel& kernel, Problem problem);
  std::unique_ptr<Work> plan(const ConvShape& shape) const override;
  size_t packed_bytes() const noexcept override { return packed_.size() + problem_.lut.entries.size(); }

  const DepthwiseKernel& kernel() const noexcept { return kernel_; }
  const Problem& problem() const noexcept { return problem_; }  // without its weights
  const Epilogue& epilogue() const noexcept { return epilogue_; }
  int64_t chunks() const noexcept { return ceil_div(problem_.geometry.c_in, kernel_.channels); }
  int64_t channels(int64_t chunk) const noexcept {
    return std::min<int64_t>(kernel_.channels, problem_.geometry.c_in - chunk * kernel_.channels);
  }
  const std::byte* chunk(int64_t index) const noexcept { return packed_.data() + index * chunk_bytes_; }

 private:
  void pack_chunk(int64_t chunk);
  void pack_lane(std::byte* to, int64_t vector_bytes, int64_t channel) const;

  DepthwiseKernel kernel_;
  Problem problem_;
  Epilogue epilogue_;
  int64_t chunk_bytes_;
  AlignedVector<std::byte> packed_;
};

PackedSlide::PackedSlide(const DepthwiseKernel& kernel, Problem problem)
    : kernel_(kernel),
      problem_(std::move(problem)),
      chunk_bytes_((slide_dots(kernel.window) + 2) * kVectors * slide_lanes(kernel.channels) * 4) {
  packed_.resize(static_cast<size_t>(chunks() * chunk_bytes_));
  for (int64_t i = 0; i < chunks(); ++i) pack_chunk(i);
  problem_.weight = {};
  problem_.weight_zero_point = {};
  problem_.folded_bias = {};
  epilogue_ = epilogue_of(problem_);
}

void PackedSlide::pack_chunk(int64_t chunk) {
  const int64_t lanes = slide_lanes(channels(chunk));
  for (int64_t vector = 0; vector < kVectors; ++vector) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t channel = slide_channel(vector, lane);
      if (channel >= channels(chunk)) continue;
      pack_lane(packed_.data() + chunk * chunk_bytes_ + (vector * lanes + lane) * 4, lanes * 4,
                chunk * kernel_.channels + channel);
    }
  }
}

void PackedSlide::pack_lane(std::byte* to, int64_t vector_bytes, int64_t channel) const {
  const int64_t window = kernel_.window;
  for (int64_t dot = 0; dot < slide_dots(kernel_.window); ++dot, to += kVectors * vector_bytes) {
    for (int64_t byte = 0; byte < 4; ++byte) {
      const Tap tap = tap_of(window, problem_.geometry.stride[2], dot, byte);
      if (tap.row >= window) continue;
      to[byte] = static_cast<std::byte>(problem_.centered(channel, tap.row * window + tap.column, 0));
    }
  }
  std::memcpy(to, &problem_.folded_bias[static_cast<size_t>(channel)], 4);
  std::memcpy(to + kVectors * vector_bytes, &problem_.multiplier[static_cast<size_t>(channel)], 4);
}

class SlideWork final : public Work {
 public:
  SlideWork(const PackedSlide& packed, const ConvShape& shape);

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override;
  int64_t cost() const noexcept override;
  int64_t products() const noexcept override { return products_of(packed_.problem(), shape_); }
  std::vector<const char*> kernels() const override { return {packed_.kernel().name}; }
  std::string details() const override;

 private:
  struct Operands {
    const uint8_t* x;
    uint8_t* y;
  };

  void run_image(const Operands& to, int64_t image, Range lines, Range columns) const noexcept;
  void run_line(const Operands& to, int64_t image, int64_t row, int64_t column) const noexcept;

  const PackedSlide& packed_;
  ConvShape shape_;
  int64_t images_;  // those of dim 0 are as good as images
  int64_t block_;   // outputs in a block
  int64_t blocks_;  // in a line
};

SlideWork::SlideWork(const PackedSlide& packed, const ConvShape& shape)
    : packed_(packed), shape_(shape), images_(shape.n * shape.out[0]) {
  const int64_t width = std::max<int64_t>(1, shape.out[2]);
  block_ = ceil_div(width, ceil_div(width * packed.problem().geometry.stride[2], kBlockColumns));
  blocks_ = ceil_div(width, block_);
}

std::unique_ptr<Work> PackedSlide::plan(const ConvShape& shape) const {
  check_shape(problem_.geometry, shape);
  return std::make_unique<SlideWork>(*this, shape);
}

void SlideWork::run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept {
  if (images_ * pixels(shape_.out) == 0) return;
  const Operands to{static_cast<const uint8_t*>(in[0]), static_cast<uint8_t*>(out[0])};
  const int64_t lines = shape_.out[1], columns = blocks_ * packed_.chunks();
  const bool by_lines =
      slowest_share(images_ * columns, threads) >= kClearlyLess * slowest_share(images_ * lines, threads);
  const int64_t per_image = by_lines ? lines : columns;
  const Range range = split(images_ * per_image, tid, threads);
  for (int64_t at = range.begin; at < range.end;) {  // what this thread does of one image
    const int64_t image = at / per_image, first = at % per_image;
    const int64_t last = std::min(first + range.end - at, per_image);
    const Range mine{first, last}, all_lines{0, lines}, all_columns{0, columns};
    run_image(to, image, by_lines ? mine : all_lines, by_lines ? all_columns : mine);
    at += last - first;
  }
}

// Lines outside: those of x that neighbouring outputs share are still in cache.
void SlideWork::run_image(const Operands& to, int64_t image, Range lines, Range columns) const noexcept {
  for (int64_t first = columns.begin; first < columns.end; first += kUnitChunks) {
    const int64_t last = std::min(first + kUnitChunks, columns.end);
    for (int64_t line = lines.begin; line < lines.end; ++line) {
      for (int64_t column = first; column < last; ++column) run_line(to, image, line, column);
    }
  }
}

// `column`: a block of outputs by a chunk of channels.
void SlideWork::run_line(const Operands& to, int64_t image, int64_t row, int64_t column) const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t chunk = column % packed_.chunks(), begin = column / packed_.chunks() * block_;
  const Range outputs{begin, std::min(begin + block_, shape_.out[2])};
  const int64_t channel = chunk * packed_.kernel().channels;
  SlideLine line;
  for (int64_t i = 0; i < packed_.kernel().window; ++i) {
    const int64_t wanted = row * g.stride[1] - rows_above(g, shape_) + i;
    const int64_t found = std::clamp<int64_t>(wanted, 0, std::max<int64_t>(0, shape_.in[1] - 1));
    line.lines[i] = to.x + (image * shape_.in[1] + found) * shape_.in[2] * shape_.x_pixel_stride + channel;
    if (wanted < 0 || wanted >= shape_.in[1]) line.outside |= 1u << i;
  }
  line.step = shape_.x_pixel_stride;
  line.first = outputs.begin * g.stride[2] - g.pad_lo[2];
  line.columns = shape_.in[2];
  line.padding = static_cast<uint8_t>(packed_.problem().quant.x_zero_point);
  line.weights = packed_.chunk(chunk);
  line.count = outputs.end - outputs.begin;
  line.out.y = to.y + ((image * shape_.out[1] + row) * shape_.out[2] + outputs.begin) * shape_.y_pixel_stride + channel;
  line.out.y_row = shape_.y_pixel_stride;
  line.out.columns = packed_.channels(chunk);
  line.out.epilogue = &packed_.epilogue();
  packed_.kernel().slide(line, g.stride[2]);
}

int64_t SlideWork::cost() const noexcept {
  const ConvGeometry& g = packed_.problem().geometry;
  const int64_t out = shape_.n * pixels(shape_.out) * g.c_out;
  return shape_.n * pixels(shape_.in) * g.c_in + out + 2 * out * packed_.problem().taps();
}

std::string SlideWork::details() const {
  return std::to_string(packed_.chunks()) + " chunks of channels, " + std::to_string(blocks_) + " blocks to a line";
}

// Lanes of vectors that are under way for a pixel.
int64_t lanes_of(const DepthwiseKernel& kernel, int64_t channels) {
  const int64_t rest = channels % kernel.channels;
  return channels - rest + (rest > 0 ? kVectors * slide_lanes(rest) : 0);
}

}  // namespace

bool slides(const DepthwiseKernel& kernel, const Problem& problem) noexcept {
  const ConvGeometry& g = problem.geometry;
  const bool plain = !problem.quant.residual && !problem.quant.f32_output && gemm::is_bounded(problem.bound);
  // With fewer lanes at work, interleaving through memory costs less.
  const bool filled = 5 * g.c_in >= 3 * lanes_of(kernel, g.c_in);
  return plain && filled && g.kernel[0] == 1 && g.stride[0] == 1 && g.pad_lo[0] == 0 && g.pad_hi[0] == 0 &&
         g.kernel[1] == kernel.window && g.kernel[2] == kernel.window && g.dilation[1] == 1 && g.dilation[2] == 1 &&
         g.stride[1] <= 2 && g.stride[1] == g.stride[2];
}

std::unique_ptr<PackedConv> pack_slide(const DepthwiseKernel& kernel, Problem problem) {
  return std::make_unique<PackedSlide>(kernel, std::move(problem));
}

}  // namespace qfx::conv
