#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "core/errors.h"
#include "core/split.h"

namespace qfx {
namespace attention {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("attention: " + what);
}

void check(const AttentionParams& p, const AttentionShape& s) {
  require(std::isfinite(p.factor), "the factor is not finite");
  for (const int64_t n : {s.batch, s.heads, s.key_heads, s.queries, s.keys, s.depth, s.width})
    require(n >= 0, "a negative dimension");
  require(s.key_heads == 0 ? s.heads == 0 : s.heads % s.key_heads == 0,
          std::to_string(s.heads) + " heads of queries are not a multiple of " + std::to_string(s.key_heads) +
              " heads of keys");
  if (s.depth > kMostDepth)
    throw SumsError("attention: sums of " + std::to_string(s.depth) + " products could leave s32");
}

class AttentionWork final : public Work {
 public:
  AttentionWork(const Kernel<Attend>& kernel, const AttentionParams& params, const AttentionShape& shape)
      : kernel_(kernel), params_(params), shape_(shape), pieces_(ceil_div(shape.queries, kPieceQueries)) {
    check(params, shape);
    scratch_bytes_ = kernel.run(piece_of(nullptr, nullptr, 0));
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const AttentionShape& s = shape_;
    if (s.width == 0) return;
    const Range range = split(s.batch * s.heads * pieces_, tid, threads);
    int64_t keys = -1, head = -1;
    for (int64_t i = range.begin; i < range.end; ++i) {
      const int64_t next = i / pieces_, next_keys = next / (s.heads / s.key_heads);
      Piece piece = piece_of(in, out, next);
      piece.begin = place(i % pieces_) * kPieceQueries;
      piece.end = std::min(s.queries, piece.begin + kPieceQueries);
      piece.new_keys = next_keys != keys;
      piece.new_mask = next != head;
      piece.scratch = scratch;
      kernel_.run(piece);
      keys = next_keys, head = next;
    }
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(scratch_bytes_); }

  int64_t cost() const noexcept override {
    const AttentionShape& s = shape_;
    const int64_t products = s.queries * s.keys * (s.depth + s.width) / (params_.causal ? 2 : 1);
    return s.batch * s.heads * (products + (s.queries + s.keys) * (s.depth + s.width));
  }

  int64_t products() const noexcept override {
    const AttentionShape& s = shape_;
    const int64_t before = params_.causal ? std::min(s.queries, s.keys) : 0;  // queries that do not see all keys
    const int64_t seen = before * (before + 1) / 2 + (s.queries - before) * s.keys;
    return s.batch * s.heads * seen * (s.depth + s.width);
  }

  std::vector<const char*> kernels() const override { return {kernel_.name}; }

  std::string details() const override {
    const AttentionShape& s = shape_;
    return std::to_string(s.batch * s.heads) + " x [" + std::to_string(s.queries) + ", " + std::to_string(s.depth) +
           "] over [" + std::to_string(s.keys) + ", " + std::to_string(s.width) + "]" +
           (params_.causal ? ", causal" : "");
  }

 private:
  // Of a causal head, the pieces come from both ends in turn: so any part of them has about its share of the keys.
  int64_t place(int64_t i) const noexcept {
    if (!params_.causal) return i;
    return i % 2 == 0 ? i / 2 : pieces_ - 1 - i / 2;
  }

  // All of a head but its queries; without operands, its sizes.
  Piece piece_of(const void* const* in, void* const* out, int64_t head) const noexcept {
    const AttentionShape& s = shape_;
    Piece p;
    p.q_row = s.q.row, p.k_row = s.k.row, p.v_row = s.v.row, p.out_row = s.out.row;
    p.mask = {params_.mask, nullptr, s.mask_row, s.mask_column};
    p.factor = params_.factor, p.causal = params_.causal;
    p.keys = s.keys, p.depth = s.depth, p.width = s.width;
    if (in == nullptr) return p;
    const int64_t b = head / s.heads, h = head % s.heads, key = h / (s.heads / s.key_heads);
    p.q = static_cast<const float*>(in[0]) + b * s.q.batch + h * s.q.head;
    p.k = static_cast<const float*>(in[1]) + b * s.k.batch + key * s.k.head;
    p.v = static_cast<const float*>(in[2]) + b * s.v.batch + key * s.v.head;
    p.out = static_cast<float*>(out[0]) + b * s.out.batch + h * s.out.head;
    const int64_t mask = b * s.mask_batch + h * s.mask_head;
    if (params_.mask == MaskType::additive) p.mask.at = static_cast<const float*>(in[3]) + mask;
    if (params_.mask == MaskType::visible) p.mask.at = static_cast<const uint8_t*>(in[3]) + mask;
    return p;
  }

  Kernel<Attend> kernel_;
  AttentionParams params_;
  AttentionShape shape_;
  int64_t pieces_;  // of a head
  int64_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Work> plan_attention_kernel(const Kernel<Attend>& kernel, const AttentionParams& params,
                                            const AttentionShape& shape) {
  return std::make_unique<AttentionWork>(kernel, params, shape);
}

}  // namespace attention

std::unique_ptr<Work> plan_attention(const AttentionParams& params, const AttentionShape& shape, Isa isa) {
  return attention::plan_attention_kernel(attention::select<attention::Attend>(isa), params, shape);
}

}  // namespace qfx
