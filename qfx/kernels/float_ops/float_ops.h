#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

// Ops on dense f32, which stay float: float32 operations in a fixed order, or float64 ones that are rounded once, so
// that the result does not depend on ISA or threads.

// Over the middle dim of [outer][n][inner].
std::unique_ptr<Work> plan_softmax(int64_t outer, int64_t n, int64_t inner, bool log, Isa isa = Isa::scalar);

// softmax of the first row % period + 1 of the n numbers of each row; zeros after them.
std::unique_ptr<Work> plan_causal_softmax(int64_t rows, int64_t period, int64_t n, Isa isa = Isa::scalar);

// Normalizes each row of [rows][n] to zero mean and unit variance (population), then * weight + bias (may be empty).
std::unique_ptr<Work> plan_layer_norm(int64_t rows, int64_t n, double eps, std::span<const float> weight,
                                      std::span<const float> bias, Isa isa = Isa::scalar);

// Normalizes each row of [rows][n] to unit mean square, then * weight (may be empty).
std::unique_ptr<Work> plan_rms_norm(int64_t rows, int64_t n, double eps, std::span<const float> weight,
                                    Isa isa = Isa::scalar);

// Channels-last [n][pixels][channels]; statistics per image and group of channels; instance norm is groups == channels.
std::unique_ptr<Work> plan_group_norm(int64_t n, int64_t pixels, int64_t channels, int64_t groups, double eps,
                                      std::span<const float> weight, std::span<const float> bias);

enum class FloatBinaryOp : int { add, sub, mul, div };
// float32 arithmetic, numpy broadcasting over equal ranks.
std::unique_ptr<Work> plan_binary_f32(FloatBinaryOp op, const std::vector<int64_t>& a, const std::vector<int64_t>& b);

// A pointwise function by its table name ("silu", "clamp", ...) with its arguments in the order of its
// signature: an absent bound is an infinity, gelu's is 1 for the tanh approximation and 0 for none. Throws
// std::invalid_argument for an unknown name or a wrong number of arguments.
std::unique_ptr<Work> plan_pointwise_f32(const std::string& name, std::span<const double> args, int64_t n,
                                         Isa isa = Isa::scalar);

// Such a function of x, times y; those that are computed in float64 are no gates.
std::unique_ptr<Work> plan_gated_f32(const std::string& name, std::span<const double> args, int64_t n,
                                     Isa isa = Isa::scalar);

// [batch][m][k] x [batch][k][n] -> [batch][m][n]; float32, accumulated in float32 in the order of k.
std::unique_ptr<Work> plan_matmul_f32(int64_t batch, int64_t m, int64_t k, int64_t n);

}  // namespace qfx
