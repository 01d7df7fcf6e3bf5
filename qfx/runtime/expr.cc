#include "runtime/expr.h"

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

}  // namespace

ExprKind parse_expr_kind(std::string_view name) {
  constexpr std::string_view names[] = {"const", "dim", "add", "sub", "mul", "floordiv", "neg"};
  for (size_t i = 0; i < std::size(names); ++i) {
    if (name == names[i]) return static_cast<ExprKind>(i);
  }
  throw std::invalid_argument("unknown expression kind '" + std::string(name) + "'");
}

int expr_operands(ExprKind kind) noexcept {
  if (kind == ExprKind::constant || kind == ExprKind::dim) return 0;
  return kind == ExprKind::neg ? 1 : 2;
}

// Iterative over ids below `id`: nodes refer to earlier nodes only, so a long chain cannot exhaust the stack.
int64_t evaluate(std::span<const Expr> exprs, int id, std::span<const Dims> shapes) {
  std::vector<char> needed(static_cast<size_t>(id) + 1, 0);
  needed[id] = 1;
  for (int i = id; i >= 0; --i) {
    if (!needed[i]) continue;
    const int n = expr_operands(exprs[i].kind);
    if (n >= 1) needed[exprs[i].a] = 1;
    if (n >= 2) needed[exprs[i].b] = 1;
  }
  std::vector<int64_t> value(static_cast<size_t>(id) + 1, 0);
  for (int i = 0; i <= id; ++i) {
    if (!needed[i]) continue;
    const Expr& e = exprs[i];
    int64_t r = 0;
    switch (e.kind) {
      case ExprKind::constant:
        r = e.a;
        break;
      case ExprKind::dim:
        r = shapes[e.a].at(e.b);
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
  needed[id] = 1;
  std::vector<int> values;
  for (int i = id; i >= 0; --i) {
    if (!needed[i]) continue;
    const Expr& e = exprs[i];
    if (e.kind == ExprKind::dim) values.push_back(static_cast<int>(e.a));
    const int n = expr_operands(e.kind);
    if (n >= 1) needed[e.a] = 1;
    if (n >= 2) needed[e.b] = 1;
  }
  return values;
}

}  // namespace qfx
