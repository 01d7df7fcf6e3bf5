// The simple loops that define the result: attention.h in code.
#include <algorithm>
#include <cmath>

#include "attention/functions.h"
#include "attention/kernels.h"

namespace qfx::attention {
namespace {

struct Held {
  int8_t *query, *keys, *values;              // codes, in the order of their rows
  float *key_scale, *log_scale, *reciprocal;  // of each key: its own, and its value's
  float *product, *offset, *score;            // of each key: x, m, e
  float *greatest, *sum, *share, *partial;    // of each block: M, s, g, acc
  bool* finite;                               // all keys and values

  Held(Room& room, const Piece& p) noexcept
      : query(room.take<int8_t>(p.depth)),
        keys(room.take<int8_t>(p.keys * p.depth)),
        values(room.take<int8_t>(p.keys * p.width)),
        key_scale(room.take<float>(p.keys)),
        log_scale(room.take<float>(p.keys)),
        reciprocal(room.take<float>(p.keys)),
        product(room.take<float>(p.keys)),
        offset(room.take<float>(p.keys)),
        score(room.take<float>(p.keys)),
        greatest(room.take<float>(ceil_div(p.keys, kBlock))),
        sum(room.take<float>(ceil_div(p.keys, kBlock))),
        share(room.take<float>(ceil_div(p.keys, kBlock))),
        partial(room.take<float>(ceil_div(p.keys, kBlock) * p.width)),
        finite(room.take<bool>(1)) {}
};

// Returns the scale; where the row is not finite, `finite` becomes false.
float quantize(const float* x, int64_t n, int8_t* codes, bool& finite) noexcept {
  float size = 0x1p-60f;
  for (int64_t c = 0; c < n; ++c) {
    if (!std::isfinite(x[c])) finite = false;
    size = std::max(size, std::fabs(x[c]));
  }
  if (!finite) return 1.0f;
  const float inverse = 127.0f / size;
  for (int64_t c = 0; c < n; ++c) codes[c] = static_cast<int8_t>(std::nearbyint(x[c] * inverse));
  return size / 127.0f;
}

void quantize_keys(const Piece& p, const Held& h) noexcept {
  *h.finite = true;
  for (int64_t j = 0; j < p.keys; ++j) {
    h.key_scale[j] = quantize(p.k + j * p.k_row, p.depth, h.keys + j * p.depth, *h.finite);
    const float scale = quantize(p.v + j * p.v_row, p.width, h.values + j * p.width, *h.finite);
    h.log_scale[j] = log2_of(scale);
    h.reciprocal[j] = 1.0f / scale;
  }
}

float offset_at(const Piece& p, int64_t i, int64_t j) noexcept {
  const int64_t at = i * p.mask.row + j * p.mask.column;
  if (p.causal && j > i) return -kInfinity;
  if (p.mask.type == MaskType::visible) return static_cast<const uint8_t*>(p.mask.at)[at] != 0 ? 0.0f : -kInfinity;
  return p.mask.type == MaskType::additive ? mask_offset(static_cast<const float*>(p.mask.at)[at]) : 0.0f;
}

// Products, offsets and scores of query i. Returns the greatest score.
float score(const Piece& p, const Held& h, int64_t i, float scale) noexcept {
  float greatest = -kInfinity;
  for (int64_t j = 0; j < p.keys; ++j) {
    int32_t dot = 0;
    for (int64_t c = 0; c < p.depth; ++c) dot += h.query[c] * h.keys[j * p.depth + c];
    h.product[j] = (static_cast<float>(dot) * h.key_scale[j]) * (scale * p.factor);
    h.offset[j] = offset_at(p, i, j);
    h.score[j] = h.product[j] + (h.offset[j] + h.log_scale[j]);
    greatest = most(h.score[j], greatest);
  }
  return greatest;
}

// Takes the keys of the greatest product and offset alike.
void flatten(const Piece& p, const Held& h) noexcept {
  float greatest = -kInfinity;
  for (int64_t j = 0; j < p.keys; ++j) greatest = most(h.product[j] + h.offset[j], greatest);
  for (int64_t j = 0; j < p.keys; ++j)
    h.score[j] = h.product[j] + h.offset[j] == greatest ? h.log_scale[j] : -kInfinity;
}

// A block's greatest score, its sum of weights, and its products of weights and values.
void weigh(const Piece& p, const Held& h, int64_t b) noexcept {
  const int64_t begin = b * kBlock, end = std::min(p.keys, begin + kBlock);
  float greatest = -kInfinity;
  for (int64_t j = begin; j < end; ++j) greatest = most(h.score[j], greatest);
  float sum = 0.0f;
  int32_t weight[kBlock];
  for (int64_t j = begin; j < end; ++j) {
    const float u = exp2_of((h.score[j] - greatest) + kWeights);
    weight[j - begin] = static_cast<int32_t>(std::nearbyint(u));
    sum += u * h.reciprocal[j];
  }
  h.greatest[b] = greatest;
  h.sum[b] = sum;
  for (int64_t d = 0; d < p.width; ++d) {
    int32_t dot = 0;
    for (int64_t j = begin; j < end; ++j) dot += weight[j - begin] * h.values[j * p.width + d];
    h.partial[b * p.width + d] = static_cast<float>(dot);
  }
}

void join_blocks(const Piece& p, const Held& h, float* out) noexcept {
  const int64_t blocks = ceil_div(p.keys, kBlock);
  float greatest = -kInfinity, sum = 0.0f;
  for (int64_t b = 0; b < blocks; ++b) greatest = most(h.greatest[b], greatest);
  for (int64_t b = 0; b < blocks; ++b) {
    h.share[b] = exp2_of(h.greatest[b] - greatest);
    sum += h.sum[b] * h.share[b];
  }
  const float inverse = 1.0f / sum;
  for (int64_t d = 0; d < p.width; ++d) {
    float y = 0.0f;
    for (int64_t b = 0; b < blocks; ++b) y += h.partial[b * p.width + d] * h.share[b];
    y *= inverse;
    out[d] = y == y ? y : kNaN;
  }
}

void attend(const Piece& p, const Held& h, int64_t i) noexcept {
  float* out = p.out + i * p.out_row;
  bool finite = *h.finite;
  const float scale = quantize(p.q + i * p.q_row, p.depth, h.query, finite);
  if (p.keys == 0 || !finite) {
    std::fill_n(out, p.width, p.keys == 0 ? 0.0f : kNaN);
    return;
  }
  const float greatest = score(p, h, i, scale);
  if (greatest == -kInfinity) {
    std::fill_n(out, p.width, 0.0f);
    return;
  }
  if (greatest < kFlatBelow) flatten(p, h);
  for (int64_t b = 0; b < ceil_div(p.keys, kBlock); ++b) weigh(p, h, b);
  join_blocks(p, h, out);
}

}  // namespace

int64_t attention_s8s8_1x1c1__scalar(const Piece& piece) noexcept {
  Room room(piece.scratch);
  const Held held(room, piece);
  if (piece.scratch == nullptr) return room.used();
  if (piece.new_keys) quantize_keys(piece, held);
  for (int64_t i = piece.begin; i < piece.end; ++i) attend(piece, held, i);
  return room.used();
}

}  // namespace qfx::attention
