#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/bands.h"
#include "runtime/loaded.h"
#include "runtime/plan.h"

namespace qfx {

// The shapes of a program's values for inputs of given layouts, known step by step.
class ShapeInference {
 public:
  // band: if set, the inputs are those of this band. Throws InputError naming the input that does not fit.
  ShapeInference(const LoadedProgram& loaded, const std::vector<InputLayout>& inputs, const Band* band = nullptr);

  // What step `s` sees, with the caller's strides where it can read them; the shapes of its results are known from then
  // on. Throws std::invalid_argument, and InputError where the program declares another shape.
  StepShapes infer(size_t s);

  const Dims& shape(int value) const { return shapes_[value]; }
  int64_t bytes(int value) const;
  std::vector<Dims> take_shapes() noexcept { return std::move(shapes_); }
  const std::vector<InputLayout>& inputs() const noexcept { return inputs_; }
  // Which program input a value is, or -1.
  int input_of(int value) const { return input_of_[value]; }
  // Where operand `i` of step `s` begins in its value: later than that where a band has more rows than the step reads.
  int64_t first_byte(size_t s, size_t i) const;

 private:
  void bind(const std::vector<InputLayout>& inputs);
  void shape_operands(size_t s, StepShapes& in) const;
  bool in_band(int value) const;

  const LoadedProgram& loaded_;
  const Band* band_;
  std::vector<InputLayout> inputs_;
  std::vector<Dims> shapes_;
  std::vector<int> input_of_;
};

// Throws InputError unless a value may have that shape. where: the value, or the step that it comes from.
void check_declared(const Value& value, const Dims& shape, const std::string& where);

// The error of a step that can't take its shapes: an InputError, or the InputSumsError of a SumsError.
[[noreturn]] void fail_step(const Step& step, const std::invalid_argument& error);

}  // namespace qfx
