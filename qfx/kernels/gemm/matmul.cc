#include "gemm/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/aligned.h"
#include "core/errors.h"
#include "core/kernel.h"
#include "core/nest.h"
#include "core/requant.h"
#include "core/split.h"
#include "gemm/columns.h"
#include "gemm/rows.h"
#include "gemm/select.h"

namespace qfx {
namespace gemm {
namespace {

constexpr int64_t kSlabColumns = 64;       // of y, packed before x passes over them
constexpr int64_t kCopyBytes = 32 * 1024;  // of x, widened at a time

enum Operand { kX, kY, kOut };

std::string shown(const MatmulShape& s, int64_t count) {
  return std::to_string(count) + " x [" + std::to_string(s.m) + ", " + std::to_string(s.k) + "] @ [" +
         std::to_string(s.k) + ", " + std::to_string(s.n) + "]";
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("matmul: " + what);
}

int64_t largest(int32_t zero_point) {
  return std::max(zero_point, 255 - zero_point);
}

void check(const MatmulQuant& q, const MatmulShape& s) {
  const auto is_code = [](int32_t v) { return v >= 0 && v <= 255; };
  require(is_code(q.x_zero_point) && is_code(q.y_zero_point) && is_code(q.zero_point), "a zero point outside 0..255");
  require(is_code(q.lo) && is_code(q.hi) && q.lo <= q.hi, "the clamp is not a range within 0..255");
  require(q.lut.empty() || q.lut.size() == 256, "the table has not 256 entries");
  require(s.m >= 0 && s.k >= 0 && s.n >= 0, "a negative dimension");
  const size_t rank = s.batch.size();
  require(s.x_batch.size() == rank && s.y_batch.size() == rank && s.out_batch.size() == rank,
          "strides of another rank than the batch");
  require(s.x_row >= (s.m > 1 ? s.k : 0) && s.out_row >= (s.m > 1 ? s.n : 0), "rows that overlap");
  if (s.k > std::numeric_limits<int32_t>::max() / (largest(q.x_zero_point) * largest(q.y_zero_point)))
    throw SumsError("matmul: sums of " + std::to_string(s.k) + " products could leave s32");
}

// Matrices of one batch dim that lie below each other and share y are one matrix.
void merge_rows(MatmulShape& s) {
  while (!s.batch.empty()) {
    const int64_t size = s.batch.back();
    if (size != 1) {
      if (s.m == 1) s.x_row = s.x_batch.back(), s.out_row = s.out_batch.back();
      const bool below = s.x_batch.back() == s.m * s.x_row && s.out_batch.back() == s.m * s.out_row;
      if (s.y_batch.back() != 0 || !below) return;
    }
    s.m *= size;
    for (auto* list : {&s.batch, &s.x_batch, &s.y_batch, &s.out_batch}) list->pop_back();
  }
}

class MatmulWork : public Work {
 public:
  MatmulWork(MatmulQuant quant, MatmulShape shape) : quant_(std::move(quant)), shape_(std::move(shape)) {
    check(quant_, shape_);
    merge_rows(shape_);
    batch_ = collapse<3>(shape_.batch, {shape_.x_batch, shape_.y_batch, shape_.out_batch});
    count_ = batch_.count();
  }

  int64_t products() const noexcept override { return count_ * shape_.m * shape_.n * shape_.k; }
  int64_t cost() const noexcept override {
    const MatmulShape& s = shape_;
    return count_ * (s.m * s.n * s.k + s.m * s.k + s.k * s.n + s.m * s.n);
  }

 protected:
  size_t element() const noexcept { return quant_.f32_output ? sizeof(float) : 1; }

  MatmulQuant quant_;
  MatmulShape shape_;
  Nest<3> batch_;
  int64_t count_ = 0;
};

class ScalarMatmul final : public MatmulWork {
 public:
  using MatmulWork::MatmulWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range rows = split(count_ * shape_.m, tid, threads);
    for_each_row(rows, batch_, shape_.m, [&](const int64_t (&offset)[3], int64_t, int64_t first, int64_t n) {
      const auto* x = static_cast<const uint8_t*>(in[0]) + offset[kX];
      const auto* y = static_cast<const uint8_t*>(in[1]) + offset[kY];
      for (int64_t i = first; i < first + n; ++i) {
        for (int64_t j = 0; j < shape_.n; ++j) {
          const float v = static_cast<float>(sum(x + i * shape_.x_row, y + j * shape_.y_col)) * quant_.multiplier;
          store(v, out[0], offset[kOut] + i * shape_.out_row + j);
        }
      }
    });
  }

  std::string details() const override { return "matmul_u8u8_1x1c1__scalar: " + shown(shape_, count_); }

 private:
  int32_t sum(const uint8_t* x, const uint8_t* y) const noexcept {
    int32_t acc = 0;
    for (int64_t i = 0; i < shape_.k; ++i)
      acc += (x[i] - quant_.x_zero_point) * (y[i * shape_.y_row] - quant_.y_zero_point);
    return acc;
  }

  void store(float v, void* y, int64_t at) const noexcept {
    if (quant_.f32_output) {
      static_cast<float*>(y)[at] = std::min(std::max(v, quant_.f32_lo), quant_.f32_hi);
      return;
    }
    const uint8_t code = requantize(v, quant_.zero_point, quant_.lo, quant_.hi);
    static_cast<uint8_t*>(y)[at] = quant_.lut.empty() ? code : quant_.lut[code];
  }
};

double bound_of(const MatmulQuant& q, const MatmulShape& s) {
  return static_cast<double>(s.k * largest(q.x_zero_point) * largest(q.y_zero_point)) *
         std::abs(static_cast<double>(q.multiplier));
}

struct Panel {
  const TileKernel* kernel;
  int64_t first;    // column
  int64_t columns;  // of y
  int64_t weights;  // byte offset in the slab
  int64_t vectors;  // offset into biases
};

// Panels that are packed together.
struct Slab {
  int64_t begin, end;  // panels
  int64_t first, columns;
};

class GemmMatmul final : public MatmulWork {
 public:
  GemmMatmul(const TileKernel& kernel, const MatmulQuant& quant, const MatmulShape& shape,
             std::span<const TileKernel> kernels)
      : MatmulWork(quant, shape),
        kernel_(kernel),
        lut_(quant_.lut),
        epilogue_(epilogue_of(quant_, bound_of(quant_, shape_))),
        steps_(kernel.steps(shape_.k)) {
    lut_.attach(epilogue_);
    lay_out(kernels);
    multiplier_.assign(static_cast<size_t>(kernel.columns), quant_.multiplier);
    // What y - 128 lacks of y - y_zero_point, as words have it: the sum of a row of x, so many times.
    row_factor_ = kernel.bytes == 1 ? 128 - quant_.y_zero_point : 0;
    if (kernel.bytes != 1) {
      const int64_t rows = kCopyBytes / (shape_.k * kernel.bytes) / kernel.rows * kernel.rows;
      copy_rows_ = std::clamp<int64_t>(rows, kernel.rows, std::max<int64_t>(kernel.rows, shape_.m));
    }
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override;

  size_t scratch_bytes() const noexcept override {
    return static_cast<size_t>(row_bias_at() + in_lines(row_factor_ != 0 ? shape_.m * 4 : 0) + copy_bytes());
  }

  std::vector<const char*> kernels() const override { return names_of_kernels(panels_); }
  std::string details() const override {
    std::string text = shown(shape_, count_) + ", " + std::to_string(panels_.size()) + " panels";
    if (copy_rows_ > 0) text += ", rows widened (" + std::to_string(copy_bytes()) + " bytes)";
    return text;
  }

 private:
  struct Place {
    const uint8_t* x;
    const uint8_t* y;
    std::byte* out;
  };

  void lay_out(std::span<const TileKernel> kernels);
  int64_t bias_at() const noexcept { return in_lines(slab_bytes_); }
  int64_t row_bias_at() const noexcept { return bias_at() + in_lines(slab_vectors_ * 4); }
  int64_t copy_at() const noexcept { return row_bias_at() + in_lines(row_factor_ != 0 ? shape_.m * 4 : 0); }
  int64_t copy_bytes() const noexcept {
    return copy_rows_ == 0 ? 0 : copy_rows_ * shape_.k * kernel_.bytes + kReadSlack;
  }
  Range rows_of(int64_t work_begin, int64_t work_end, int64_t start, int64_t columns) const noexcept;
  void pack(const Slab& slab, const uint8_t* y, std::byte* scratch) const noexcept;
  void sum_rows(const uint8_t* x, int32_t* to) const noexcept;
  void multiply(const Slab& slab, const Place& at, Range rows, std::byte* scratch) const noexcept;

  TileKernel kernel_;
  LookupTable lut_;
  Epilogue epilogue_;
  int64_t steps_;
  std::vector<Panel> panels_;
  std::vector<Slab> slabs_;
  std::vector<float> multiplier_;
  int64_t slab_bytes_ = 0, slab_vectors_ = 0;
  int32_t row_factor_ = 0;
  int64_t copy_rows_ = 0;
};

void GemmMatmul::lay_out(std::span<const TileKernel> kernels) {
  const int64_t width = std::max<int64_t>(1, kSlabColumns / kernel_.columns) * kernel_.columns;
  for (int64_t first = 0; first < shape_.n; first += width) {
    const int64_t columns = std::min(width, shape_.n - first);
    const auto begin = static_cast<int64_t>(panels_.size());
    int64_t weights = 0, vectors = 0;
    for (int64_t done = 0; done < columns; done += kernel_.columns) {
      const int64_t some = std::min<int64_t>(kernel_.columns, columns - done);
      const TileKernel& kernel = kernel_for(kernel_, kernels, some);
      panels_.push_back({&kernel, first + done, some, weights, vectors});
      weights += in_lines(steps_ * kernel.step_bytes());
      vectors += kernel.columns;
    }
    slabs_.push_back({begin, static_cast<int64_t>(panels_.size()), first, columns});
    slab_bytes_ = std::max(slab_bytes_, weights);
    slab_vectors_ = std::max(slab_vectors_, vectors);
  }
}

// The rows of the columns from `start` on (of all columns of the batch) that fall into a share of the products.
Range GemmMatmul::rows_of(int64_t work_begin, int64_t work_end, int64_t start, int64_t columns) const noexcept {
  const auto row = [&](int64_t work) {
    const int64_t rows = ceil_div(std::max<int64_t>(0, work - start * shape_.m), columns);
    return std::min(shape_.m, ceil_div(rows, kernel_.rows) * kernel_.rows);
  };
  return {row(work_begin), row(work_end)};
}

void GemmMatmul::run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept {
  const Range work = split(count_ * shape_.n * shape_.m, tid, threads);
  if (work.begin == work.end) return;
  const int64_t matrix = shape_.n * shape_.m;
  const uint8_t* packed = nullptr;
  const Slab* packed_slab = nullptr;
  Cursor<3> cursor(batch_, work.begin / matrix);
  for (int64_t b = work.begin / matrix; b * matrix < work.end; ++b, cursor.advance()) {
    const Place at{static_cast<const uint8_t*>(in[0]) + cursor.offset[kX],
                   static_cast<const uint8_t*>(in[1]) + cursor.offset[kY],
                   static_cast<std::byte*>(out[0]) + cursor.offset[kOut] * static_cast<int64_t>(element())};
    bool summed = false;
    for (const Slab& slab : slabs_) {
      const Range rows = rows_of(work.begin, work.end, b * shape_.n + slab.first, slab.columns);
      if (rows.begin >= rows.end) continue;
      if (row_factor_ != 0 && !summed) sum_rows(at.x, reinterpret_cast<int32_t*>(scratch + row_bias_at()));
      summed = true;
      if (at.y != packed || &slab != packed_slab) pack(slab, at.y, scratch);
      packed = at.y, packed_slab = &slab;
      multiply(slab, at, rows, scratch);
    }
  }
}

void GemmMatmul::pack(const Slab& slab, const uint8_t* y, std::byte* scratch) const noexcept {
  auto* biases = reinterpret_cast<int32_t*>(scratch + bias_at());
  const bool bytes = kernel_.bytes == 1;
  const int32_t factor = (bytes ? kernel_.shift : 0) - quant_.x_zero_point;
  const auto constant =
      bytes ? static_cast<uint32_t>(shape_.k) * static_cast<uint32_t>(quant_.x_zero_point * (quant_.y_zero_point - 128))
            : 0;
  for (int64_t p = slab.begin; p < slab.end; ++p) {
    const Panel& panel = panels_[static_cast<size_t>(p)];
    int32_t* bias = biases + panel.vectors;
    pack_columns(*panel.kernel, {y + panel.first * shape_.y_col, shape_.k, shape_.y_row, shape_.y_col, panel.columns},
                 steps_, quant_.y_zero_point, scratch + panel.weights, bias);
    for (int c = 0; c < panel.kernel->columns; ++c)
      bias[c] = static_cast<int32_t>(static_cast<uint32_t>(factor) * static_cast<uint32_t>(bias[c]) + constant);
  }
}

void GemmMatmul::sum_rows(const uint8_t* x, int32_t* to) const noexcept {
  for (int64_t i = 0; i < shape_.m; ++i) to[i] = row_factor_ * sum_of(x + i * shape_.x_row, shape_.k);
}

void GemmMatmul::multiply(const Slab& slab, const Place& at, Range rows, std::byte* scratch) const noexcept {
  const int64_t taps[1] = {0};
  const auto* row_bias = reinterpret_cast<const int32_t*>(scratch + row_bias_at());
  const auto* biases = reinterpret_cast<const int32_t*>(scratch + bias_at());
  const int64_t block = copy_rows_ > 0 ? copy_rows_ : rows.end - rows.begin;
  for (int64_t first = rows.begin; first < rows.end; first += block) {
    const int64_t count = std::min(block, rows.end - first);
    const uint8_t* x = at.x + first * shape_.x_row;
    Tile tile;
    tile.a = reinterpret_cast<const std::byte*>(x);
    tile.a_row = shape_.x_row;
    if (copy_rows_ > 0) {
      std::byte* copy = scratch + copy_at();
      for (int64_t i = 0; i < count; ++i)
        widen(x + i * shape_.x_row, shape_.k, reinterpret_cast<int16_t*>(copy) + i * shape_.k);
      tile.a = copy;
      tile.a_row = shape_.k * kernel_.bytes;
    }
    tile.taps = taps;
    tile.tap_count = 1;
    tile.steps = steps_;
    for (int64_t p = slab.begin; p < slab.end; ++p) {
      const Panel& panel = panels_[static_cast<size_t>(p)];
      tile.b = scratch + panel.weights;
      tile.start = biases + panel.vectors;
      tile.out.y = at.out + (first * shape_.out_row + panel.first) * static_cast<int64_t>(element());
      tile.out.y_row = shape_.out_row;
      tile.out.row_bias = row_factor_ != 0 ? row_bias + first : nullptr;
      tile.out.multiplier = multiplier_.data();
      tile.out.columns = panel.columns;
      tile.out.epilogue = &epilogue_;
      panel.kernel->run(tile, count);
    }
  }
}

}  // namespace

std::unique_ptr<Work> plan_matmul_gemm(const TileKernel& kernel, const MatmulQuant& quant, const MatmulShape& shape,
                                       std::span<const TileKernel> kernels) {
  if (shape.k == 0) return plan_matmul_scalar(quant, shape);
  return std::make_unique<GemmMatmul>(kernel, quant, shape, kernels);
}

std::unique_ptr<Work> plan_matmul_scalar(const MatmulQuant& quant, const MatmulShape& shape) {
  return std::make_unique<ScalarMatmul>(quant, shape);
}

}  // namespace gemm

std::unique_ptr<Work> plan_matmul(const MatmulQuant& quant, const MatmulShape& shape, Isa isa) {
  if (shape.k == 0 || shape.n == 0 || isa == Isa::scalar) return gemm::plan_matmul_scalar(quant, shape);
  gemm::check(quant, shape);
  const gemm::Demand demand{shape.n, shape.k, shape.k, false, gemm::SingleRows::seldom, false};
  return gemm::plan_matmul_gemm(*gemm::select(gemm::kernels(), demand, isa), quant, shape);
}

}  // namespace qfx
