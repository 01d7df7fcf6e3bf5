#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/affine.h"
#include "core/work.h"
#include "elementwise/kernels.h"

namespace qfx::gemm {

// What a row is quantized by. A scale that is not finite makes its products NaN.
class RowQuantizer {
 public:
  RowQuantizer(const Affine& affine, Isa isa) noexcept;

  float scale() const noexcept { return scale_; }
  int32_t zero_point() const noexcept { return params_.zero_point; }
  void run(const float* x, uint8_t* codes, int64_t n) const noexcept { kernel_.run(x, codes, n, params_); }

 private:
  float scale_;
  elementwise::QuantizeParams params_;
  Kernel<elementwise::Quantize> kernel_;
};

// Rows of codes with what they were quantized by, in room of the caller's.
struct DynamicRows {
  std::byte* codes = nullptr;
  int64_t stride = 0;  // bytes between rows
  float* scale = nullptr;
  int32_t* zero_point = nullptr;
  int32_t* sum = nullptr;
  bool uniform = false;       // all were quantized by the same
  uint8_t* narrow = nullptr;  // room for the codes of one row, where kernels read words

  // Those from `row` on.
  DynamicRows from(int64_t row) const noexcept {
    return {codes + row * stride, stride, scale + row, zero_point + row, sum + row, uniform, narrow};
  }
};

// How rows of floats become rows of codes as a kernel reads them.
struct RowLayout {
  int64_t features = 0;
  int64_t stride = 0;  // bytes between rows of codes
  bool wide = false;   // codes are words
  bool sums = false;   // whether the kernel needs the codes' sums
  bool operator==(const RowLayout&) const = default;

  // What all of them and what they were quantized by take, and where it lies there.
  size_t room_bytes(int64_t rows) const noexcept;
  DynamicRows rows_in(std::byte* room, int64_t rows) const noexcept;
  void quantize(const float* x, const RowQuantizer& quantizer, const DynamicRows& rows, int64_t row) const noexcept;
};

}  // namespace qfx::gemm

namespace qfx {

// How a layer wants rows that are quantized one by one, apart from it: once for all layers that want them alike.
struct QuantizedRows {
  gemm::RowLayout layout;
  Isa isa;
  bool operator==(const QuantizedRows&) const = default;

  int64_t bytes(int64_t rows) const noexcept { return static_cast<int64_t>(layout.room_bytes(rows)); }
  // f32 [rows][features] to those bytes.
  std::unique_ptr<Work> plan(int64_t rows) const;
};

}  // namespace qfx
