#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/dtype.h"

namespace qfx {

// Some types: a bit a line of dtypes.inc.
using DTypes = uint32_t;

constexpr DTypes types_of(std::initializer_list<DType> dtypes) noexcept {
  DTypes types = 0;
  for (const DType d : dtypes) types |= DTypes{1} << static_cast<int>(d);
  return types;
}

constexpr bool holds(DTypes types, DType dtype) noexcept {
  return (types & types_of({dtype})) != 0;
}

// "u8 or f32".
std::string to_string(DTypes types);

inline constexpr DTypes kSameType = 0;  // that of the first operand

struct Operand {
  enum class Presence { required, optional, any };  // any: the only operand, once or more

  const char* name;
  DTypes types;
  Presence presence = Presence::required;
};

struct Result {
  const char* name;
  DTypes types;
};

enum class AttributeKind { integer, number, expr, constant, text };

// What a step can be told beside its operands: one entry or some.
struct Attribute {
  static constexpr int kAny = -1;      // any number of entries
  static constexpr int kSpatial = -2;  // one entry for each dim of operand 0 but the first and the last
  static constexpr int kRank = -3;     // one entry for each dim of operand 0

  const char* name;
  AttributeKind kind;
  const char* about = "";
  int count = 1;
  bool required = true;
  double low = 0, high = 0;        // between which integers and numbers are
  bool may_be_nan = false;         // of numbers
  std::vector<double> fallback{};  // what integers and numbers are where they are left out; one entry stands for all
  DTypes types = 0;                // of constants

  Attribute entries(int n) const;
  Attribute within(double lowest, double highest) const;
  Attribute optional() const;
  Attribute otherwise(std::vector<double> values) const;
};

Attribute integer(const char* name, const char* about = "");
Attribute code(const char* name, const char* about = "");    // of u8
Attribute flag(const char* name, const char* about = "");    // 0 or 1
Attribute number(const char* name, const char* about = "");  // finite
Attribute single(const char* name, const char* about = "");  // finite as float32
Attribute expr(const char* name, const char* about = "");
Attribute text(const char* name, const char* about = "");
Attribute constant(const char* name, DTypes types, const char* about = "");

// One operation of the program format. What says one of the flags has one result.
struct StepSchema {
  const char* op;
  const char* about;
  std::vector<Operand> operands;
  std::vector<Result> results;
  std::vector<Attribute> attributes;
  bool strided_input = false;  // reads program inputs with any strides
  // Where dim 0 of the result is the batch, like that of the operands, it computes every image from that image alone.
  bool per_image = false;
  // For rank 4 and a result as high as the windows make it of input 0, the rows of an image (dim 1) can be computed a
  // few at a time; StepKernel::row_window says from what.
  bool row_window = false;
  bool pixel_strides = false;  // reads input 0 and writes its result with any distance between pixels

  const Attribute* find(std::string_view name) const;
};

// Every operation: the one table. Python's constructors (qfx/runtime/steps.py) and docs/program_format.md are written
// from it, StepView reads attributes by it.
const std::vector<StepSchema>& step_schemas();

}  // namespace qfx
