#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/dtype.h"

namespace qfx {

// Integer expressions over the dimensions of values. A node refers to earlier nodes only.
enum class ExprKind : int { constant, dim, add, sub, mul, floordiv, neg };
inline constexpr std::string_view kExprKinds[] = {"const", "dim", "add", "sub", "mul", "floordiv", "neg"};

struct Expr {
  ExprKind kind = ExprKind::constant;
  int64_t a = 0;  // constant: the number; dim: value id; otherwise a node
  int64_t b = 0;  // dim: axis; binary: a node
};

// Throws std::invalid_argument for an unknown name.
ExprKind parse_expr_kind(std::string_view name);

// The number of expr operands of a kind (0 for constant and dim).
int expr_operands(ExprKind kind) noexcept;

// Throws std::invalid_argument on overflow and division by zero. `shapes` is indexed by value id.
int64_t evaluate(std::span<const Expr> exprs, int id, std::span<const Dims> shapes);

// The ids of all values whose dims `id` reads.
std::vector<int> expr_values(std::span<const Expr> exprs, int id);

}  // namespace qfx
