#include "runtime/expr.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace qfx {
namespace {

// By reference: the order in which arguments are evaluated is unspecified, and `value` is set by the other one.
int64_t checked(bool overflow, const int64_t& value) {
  if (overflow) throw std::invalid_argument("a dimension expression overflows");
  return value;
}

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) throw std::invalid_argument("a dimension expression divides by zero");
  if (b == -1) {
    int64_t r = 0;
    return checked(__builtin_sub_overflow(int64_t{0}, a, &r), r);
  }
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}

int64_t leaf(const Expr& e, std::span<const Dims> shapes) {
  return e.kind == ExprKind::constant ? e.a : shapes[e.a].at(e.b);
}

// Marks `id` and what it is computed from; returns the first of them.
int mark_needed(std::span<const Expr> exprs, int id, std::vector<char>& needed) {
  needed[id] = 1;
  int64_t first = id;
  for (int64_t i = id; i >= first; --i) {
    if (!needed[i]) continue;
    const int64_t operands[] = {exprs[i].a, exprs[i].b};
    for (int k = 0; k < expr_operands(exprs[i].kind); ++k) {
      needed[operands[k]] = 1;
      first = std::min(first, operands[k]);
    }
  }
  return static_cast<int>(first);
}

}  // namespace

ExprKind parse_expr_kind(std::string_view name) {
  for (size_t i = 0; i < std::size(kExprKinds); ++i) {
    if (name == kExprKinds[i]) return static_cast<ExprKind>(i);
  }
  throw std::invalid_argument("unknown expression kind '" + std::string(name) + "'");
}

int expr_operands(ExprKind kind) noexcept {
  if (kind == ExprKind::constant || kind == ExprKind::dim) return 0;
  return kind == ExprKind::neg ? 1 : 2;
}

// Iterative over ids below `id`: nodes refer to earlier nodes only, so a long chain cannot exhaust the stack.
int64_t evaluate(std::span<const Expr> exprs, int id, std::span<const Dims> shapes) {
  if (expr_operands(exprs[id].kind) == 0) return leaf(exprs[id], shapes);
  std::vector<char> needed(static_cast<size_t>(id) + 1, 0);
  const int first = mark_needed(exprs, id, needed);
  std::vector<int64_t> value(static_cast<size_t>(id) + 1, 0);
  for (int i = first; i <= id; ++i) {
    if (!needed[i]) continue;
    const Expr& e = exprs[i];
    int64_t r = 0;
    switch (e.kind) {
      case ExprKind::constant:
      case ExprKind::dim:
        r = leaf(e, shapes);
        break;
      case ExprKind::add:
        r = checked(__builtin_add_overflow(value[e.a], value[e.b], &r), r);
        break;
      case ExprKind::sub:
        r = checked(__builtin_sub_overflow(value[e.a], value[e.b], &r), r);
        break;
      case ExprKind::mul:
        r = checked(__builtin_mul_overflow(value[e.a], value[e.b], &r), r);
        break;
      case ExprKind::floordiv:
        r = floor_div(value[e.a], value[e.b]);
        break;
      case ExprKind::neg:
        r = checked(__builtin_sub_overflow(int64_t{0}, value[e.a], &r), r);
        break;
    }
    value[i] = r;
  }
  return value[id];
}

std::vector<int> expr_values(std::span<const Expr> exprs, int id) {
  std::vector<char> needed(static_cast<size_t>(id) + 1, 0);
  std::vector<int> values;
  for (int i = id, first = mark_needed(exprs, id, needed); i >= first; --i) {
    if (needed[i] && exprs[i].kind == ExprKind::dim) values.push_back(static_cast<int>(exprs[i].a));
  }
  return values;
}

}  // namespace qfx
