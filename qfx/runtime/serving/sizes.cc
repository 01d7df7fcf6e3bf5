#include "runtime/serving/sizes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace qfx {
namespace {

// A number of Python's: whole, or float64.
struct Number {
  bool is_whole = true;
  int64_t whole = 0;
  double real = 0;

  double value() const { return is_whole ? static_cast<double>(whole) : real; }
  bool is_true() const { return is_whole ? whole != 0 : real != 0; }
};
using Result = std::optional<Number>;

Number whole(int64_t n) {
  return {true, n, 0};
}
Number real(double d) {
  return {false, 0, d};
}

int operands(SizeOp op) {
  switch (op) {
    case SizeOp::integer:
    case SizeOp::number:
    case SizeOp::size:
      return 0;
    case SizeOp::neg:
    case SizeOp::trunc:
    case SizeOp::floor:
    case SizeOp::ceil:
    case SizeOp::to_float:
    case SizeOp::to_int:
    case SizeOp::abs:
    case SizeOp::sqrt:
    case SizeOp::negated:
      return 1;
    default:
      return 2;
  }
}

Result rounded(double d) {
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  if (!(d >= -kBeyond && d < kBeyond)) return std::nullopt;
  return whole(static_cast<int64_t>(d));
}

Result unary(SizeOp op, const Number& x) {
  switch (op) {
    case SizeOp::neg:
    case SizeOp::abs: {
      if (!x.is_whole) return real(op == SizeOp::neg ? -x.real : std::fabs(x.real));
      if (x.whole == std::numeric_limits<int64_t>::min()) return std::nullopt;
      return whole(op == SizeOp::neg || x.whole < 0 ? -x.whole : x.whole);
    }
    case SizeOp::trunc:
    case SizeOp::to_int:
      return x.is_whole ? x : rounded(std::trunc(x.real));
    case SizeOp::floor:
      return x.is_whole ? x : rounded(std::floor(x.real));
    case SizeOp::ceil:
      return x.is_whole ? x : rounded(std::ceil(x.real));
    case SizeOp::to_float:
      return real(x.value());
    case SizeOp::sqrt:
      return x.value() >= 0 ? Result(real(std::sqrt(x.value()))) : std::nullopt;
    default:
      return whole(x.is_true() ? 0 : 1);
  }
}

// Towards minus infinity, as Python divides.
Result divided(SizeOp op, int64_t a, int64_t b) {
  if (b == 0 || (b == -1 && a == std::numeric_limits<int64_t>::min())) return std::nullopt;
  const bool is_below = a % b != 0 && (a < 0) != (b < 0);
  return whole(op == SizeOp::floordiv ? a / b - (is_below ? 1 : 0) : a % b + (is_below ? b : 0));
}

Result arithmetic(SizeOp op, const Number& x, const Number& y) {
  if (op == SizeOp::div) return y.value() == 0 ? Result() : Result(real(x.value() / y.value()));
  if (x.is_whole && y.is_whole) {
    int64_t made = 0;
    if (op == SizeOp::floordiv || op == SizeOp::mod) return divided(op, x.whole, y.whole);
    const bool is_beyond = op == SizeOp::add   ? __builtin_add_overflow(x.whole, y.whole, &made)
                           : op == SizeOp::sub ? __builtin_sub_overflow(x.whole, y.whole, &made)
                                               : __builtin_mul_overflow(x.whole, y.whole, &made);
    return is_beyond ? Result() : Result(whole(made));
  }
  const double a = x.value(), b = y.value();
  switch (op) {
    case SizeOp::add:
      return real(a + b);
    case SizeOp::sub:
      return real(a - b);
    case SizeOp::mul:
      return real(a * b);
    default: {
      if (b == 0) return std::nullopt;
      double rest = std::fmod(a, b);
      if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
      return real(op == SizeOp::mod ? rest : std::round((a - rest) / b));
    }
  }
}

// -1, 0 or 1; nothing where one of them is no number. A long double holds all 64 bits of an integer.
std::optional<int> compared(const Number& x, const Number& y) {
  const auto exact = [](const Number& n) {
    return n.is_whole ? static_cast<long double>(n.whole) : static_cast<long double>(n.real);
  };
  const long double a = exact(x), b = exact(y);
  if (std::isnan(a) || std::isnan(b)) return std::nullopt;
  return a < b ? -1 : a > b ? 1 : 0;
}

bool relation(SizeOp op, const Number& x, const Number& y) {
  const std::optional<int> order = compared(x, y);
  if (!order) return op == SizeOp::unequal;
  switch (op) {
    case SizeOp::equal:
      return *order == 0;
    case SizeOp::unequal:
      return *order != 0;
    case SizeOp::less:
      return *order < 0;
    case SizeOp::at_most:
      return *order <= 0;
    case SizeOp::more:
      return *order > 0;
    default:
      return *order >= 0;
  }
}

Result binary(SizeOp op, const Number& x, const Number& y) {
  switch (op) {
    case SizeOp::add:
    case SizeOp::sub:
    case SizeOp::mul:
    case SizeOp::floordiv:
    case SizeOp::mod:
    case SizeOp::div:
      return arithmetic(op, x, y);
    case SizeOp::max:
      return compared(y, x) == 1 ? y : x;
    case SizeOp::min:
      return compared(y, x) == -1 ? y : x;
    case SizeOp::both:
      return whole(x.is_true() && y.is_true() ? 1 : 0);
    case SizeOp::either:
      return whole(x.is_true() || y.is_true() ? 1 : 0);
    default:
      return whole(relation(op, x, y) ? 1 : 0);
  }
}

}  // namespace

std::vector<size_t> read_by(const Condition& condition) {
  std::vector<size_t> found;
  for (const SizeNode& n : condition.nodes) {
    const auto input = static_cast<size_t>(n.a);
    if (n.op == SizeOp::size && std::ranges::find(found, input) == found.end()) found.push_back(input);
  }
  return found;
}

bool is_sound(const Condition& condition, std::span<const size_t> ranks) {
  const auto is_below = [](int64_t n, size_t end) { return n >= 0 && static_cast<uint64_t>(n) < end; };
  for (size_t i = 0; i < condition.nodes.size(); ++i) {
    const SizeNode& n = condition.nodes[i];
    const int count = operands(n.op);
    if (n.op == SizeOp::size && !(is_below(n.a, ranks.size()) && is_below(n.b, ranks[n.a]))) return false;
    if ((count > 0 && !is_below(n.a, i)) || (count > 1 && !is_below(n.b, i))) return false;
  }
  return !condition.nodes.empty();
}

bool holds(const Condition& condition, std::span<const Dims> shapes) {
  std::vector<Number> values;
  values.reserve(condition.nodes.size());
  for (const SizeNode& n : condition.nodes) {
    const int count = operands(n.op);
    const Result made = n.op == SizeOp::integer  ? whole(n.a)
                        : n.op == SizeOp::number ? real(n.number)
                        : n.op == SizeOp::size   ? whole(shapes[n.a][n.b])
                        : count == 1             ? unary(n.op, values[n.a])
                                                 : binary(n.op, values[n.a], values[n.b]);
    if (!made) return false;
    values.push_back(*made);
  }
  return values.back().is_true();
}

}  // namespace qfx
