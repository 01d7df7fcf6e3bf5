#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/archive.h"
#include "runtime/dtype.h"

namespace qfx {

// What a capture took for granted about the sizes of a model's inputs: an expression that is not 0, in Python's numbers
// (whole ones, which must fit 64 bits, and float64). qfx/guards.py says the same of a model in torch.
// clang-format off
enum class SizeOp : uint8_t {
  integer, number, size,  // size: dim b of input a
  add, sub, mul, floordiv, mod, div, neg, max, min, trunc, floor, ceil, to_float, to_int, abs, sqrt,
  equal, unequal, less, at_most, more, at_least, both, either, negated,
};
inline constexpr std::string_view kSizeOps[] = {
    "integer", "number", "size", "+", "-", "*", "//", "%", "/", "neg", "max", "min", "trunc", "floor", "ceil", "float",
    "int", "abs", "sqrt", "==", "!=", "<", "<=", ">", ">=", "and", "or", "not"};
// clang-format on
template <>
inline constexpr size_t kKinds<SizeOp> = std::size(kSizeOps);

// A node refers to earlier ones.
struct SizeNode {
  SizeOp op = SizeOp::integer;
  int64_t a = 0;  // an integer: itself; a size: the input; else a node
  int64_t b = 0;  // a size: the dim; of two operands the second
  double number = 0;
};

struct Condition {
  std::vector<SizeNode> nodes;  // the last one is what must hold
  std::string text;             // as code writes it
};

template <class Archive>
void fields(Archive& archive, SizeNode& n) {
  archive(n.op);
  archive(n.a);
  archive(n.b);
  archive(n.number);
}

template <class Archive>
void fields(Archive& archive, Condition& c) {
  archive(c.nodes);
  archive(c.text);
}

// The inputs that it reads, in order, each once.
std::vector<size_t> read_by(const Condition& condition);

// Whether its nodes refer to earlier ones, and to dims that inputs of these ranks have.
bool is_sound(const Condition& condition, std::span<const size_t> ranks);

// Whether it holds for inputs of these shapes, which have the ranks. What can't be computed does not hold: a quotient
// by 0, an integer beyond 64 bits.
bool holds(const Condition& condition, std::span<const Dims> shapes);

}  // namespace qfx
