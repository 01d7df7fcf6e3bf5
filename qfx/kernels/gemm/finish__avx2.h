#pragma once
// Epilogues in AVX2 registers, for *__avx2.cc files only. Everything has internal linkage, so that no instruction of
// this level reaches a baseline object through a merged inline function.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "gemm/epilogue.h"

namespace qfx::gemm {
namespace {

inline __m256i first_dwords(int64_t n) noexcept {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : static_cast<int32_t>(n)), index);
}

inline __m128i load_bytes(const uint8_t* from, int64_t n) noexcept {
  if (n >= 8) return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  uint64_t eight = 0;
  std::memcpy(&eight, from, static_cast<size_t>(n));
  return _mm_cvtsi64_si128(static_cast<int64_t>(eight));
}

inline void store_bytes(uint8_t* to, __m128i bytes, int64_t n) noexcept {
  if (n >= 8) return _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
  const auto eight = static_cast<uint64_t>(_mm_cvtsi128_si64(bytes));
  std::memcpy(to, &eight, static_cast<size_t>(n));
}

inline __m256 plus_addend(const Output& out, int64_t row, int64_t first, __m256 v) noexcept {
  if (out.addend == nullptr) return v;
  const float* addend = out.addend + row * out.addend_row + first;
  return _mm256_add_ps(v, _mm256_maskload_ps(addend, first_dwords(out.columns - first)));
}

// The value of eight lanes of a row that was quantized as it came, `first` onwards.
inline __m256 dynamic_value(const Output& out, int64_t row, int64_t first, __m256i acc) noexcept {
  const Dynamic& d = out.dynamic;
  const auto load = [&](const int32_t* of_columns) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(of_columns + first));
  };
  acc = _mm256_sub_epi32(acc, _mm256_mullo_epi32(load(d.column_sum), _mm256_set1_epi32(d.zero_point[row])));
  if (d.column_zero_point != nullptr) {
    acc = _mm256_sub_epi32(acc, _mm256_mullo_epi32(load(d.column_zero_point), _mm256_set1_epi32(d.row_sum[row])));
  }
  const __m256 m = _mm256_mul_ps(_mm256_set1_ps(d.scale[row]), _mm256_loadu_ps(out.multiplier + first));
  const __m256 v = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), m), _mm256_loadu_ps(d.bias + first));
  return plus_addend(out, row, first, v);
}

// The value before rounding of eight lanes, `first` onwards.
inline __m256 value(const Output& out, int64_t row, int64_t first, __m256i acc) noexcept {
  if (out.dynamic.scale != nullptr) return dynamic_value(out, row, first, acc);
  const Epilogue& e = *out.epilogue;
  if (out.row_bias != nullptr) acc = _mm256_add_epi32(acc, _mm256_set1_epi32(out.row_bias[row]));
  const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(out.multiplier + first));
  if (out.residual == nullptr) return plus_addend(out, row, first, v);
  const __m128i bytes = load_bytes(out.residual + row * out.residual_row + first, out.columns - first);
  const __m256i r = _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_set1_epi32(e.residual_zero_point));
  return _mm256_add_ps(v, _mm256_mul_ps(_mm256_cvtepi32_ps(r), _mm256_set1_ps(e.residual_multiplier)));
}

// Saturation at each narrowing equals the clamp of requantize().
inline __m128i codes(const Epilogue& e, __m256 v) noexcept {
  const __m256i q = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(65536.0f), v));
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  const __m128i shifted = _mm_adds_epi16(words, _mm_set1_epi16(static_cast<int16_t>(e.zero_point)));
  const __m128i bytes = _mm_packus_epi16(shifted, shifted);
  const __m128i low = _mm_max_epu8(bytes, _mm_set1_epi8(static_cast<char>(e.lo)));
  return _mm_min_epu8(low, _mm_set1_epi8(static_cast<char>(e.hi)));
}

// Eight lanes of one row, `first` onwards; those past out.columns are not written.
inline void finish_eight(const Output& out, int64_t row, int64_t first, __m256i acc) noexcept {
  const Epilogue& e = *out.epilogue;
  const int64_t left = out.columns - first;
  if (left <= 0) return;
  const __m256 v = value(out, row, first, acc);
  if (e.f32_output) {
    // In this order max and min treat a zero of either sign as std::max and std::min do.
    const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(e.f32_hi), _mm256_max_ps(_mm256_set1_ps(e.f32_lo), v));
    _mm256_maskstore_ps(static_cast<float*>(out.y) + row * out.y_row + first, first_dwords(left), clamped);
    return;
  }
  uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row + first;
  store_bytes(y, codes(e, v), left);
  if (e.lut == nullptr) return;
  for (int64_t i = 0; i < left && i < 8; ++i) y[i] = e.lut[y[i]];
}

}  // namespace
}  // namespace qfx::gemm
