#include "runtime/inference.h"

#include <utility>

#include "core/errors.h"
#include "runtime/errors.h"
#include "runtime/frontier.h"
#include "runtime/shapes.h"

namespace qfx {

void check_declared(const Value& value, const Dims& shape, const std::string& where) {
  bool fits = shape.size() == value.rank();
  for (size_t d = 0; fits && d < shape.size(); ++d) fits = value.shape[d] < 0 || value.shape[d] == shape[d];
  if (!fits) {
    throw InputError(where, "'" + value.name + "' has shape " + to_string(shape) + ", the program expects " +
                                to_string(value.shape) + " (-1: any).");
  }
  try {
    element_count(shape);
  } catch (const std::invalid_argument& error) {
    throw InputError(where, error.what());
  }
}

ShapeInference::ShapeInference(const LoadedProgram& loaded, const std::vector<InputLayout>& inputs, const Band* band)
    : loaded_(loaded),
      band_(band),
      shapes_(constant_shapes(*loaded.program)),
      input_of_(loaded.program->values().size(), -1) {
  bind(inputs);
}

void ShapeInference::bind(const std::vector<InputLayout>& inputs) {
  const auto& ids = loaded_.program->inputs();
  if (inputs.size() != ids.size()) {
    throw InputError("inputs", "The program takes " + std::to_string(ids.size()) + " inputs, not " +
                                   std::to_string(inputs.size()) + ".");
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Value& value = loaded_.program->values()[ids[i]];
    check_declared(value, inputs[i].shape, value.name);
    if (inputs[i].strides.size() != inputs[i].shape.size()) {
      throw InputError(value.name, "The input has as many strides as dimensions.");
    }
    inputs_.push_back(inputs[i]);
    canonicalize_strides(inputs_[i].shape, inputs_[i].strides);
    shapes_[ids[i]] = inputs[i].shape;
    input_of_[ids[i]] = static_cast<int>(i);
  }
}

int64_t ShapeInference::bytes(int value) const {
  return byte_size(shapes_[value], loaded_.program->values()[value].dtype);
}

StepShapes ShapeInference::infer(size_t s) {
  const Step& step = loaded_.program->steps()[s];
  StepShapes in = step_shapes(loaded_, s, shapes_);
  if (band_ != nullptr) shape_operands(s, in);
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const int input = input_of_[step.inputs[i]];
    if (loaded_.rows[s]->strided_input && input >= 0) in.strides[i] = inputs_[input].strides;
  }
  if (band_ != nullptr) {
    shapes_[step.output()] = band_->shapes[step.output()];
    return in;
  }
  std::vector<Dims> inferred = loaded_.kernels[s]->shapes(in);
  for (size_t i = 0; i < step.outputs.size(); ++i) {
    check_declared(loaded_.program->values()[step.outputs[i]], inferred[i], step.name);
    shapes_[step.outputs[i]] = std::move(inferred[i]);
  }
  return in;
}

// The rows that a step of a band reads, of those that are there.
void ShapeInference::shape_operands(size_t s, StepShapes& in) const {
  const Step& step = loaded_.program->steps()[s];
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    if (!in_band(step.inputs[i])) continue;
    in.inputs[i][1] = band_->operands[s][i].count();
    if (loaded_.rows[s]->strided_input) in.strides[i] = dense_strides(in.inputs[i]);
  }
  in.row_padding = band_->padding[s];
}

// Whether a value holds rows of the band, in a buffer of the plan.
bool ShapeInference::in_band(int value) const {
  return band_ != nullptr && input_of_[value] < 0 && loaded_.program->values()[value].constant < 0;
}

int64_t ShapeInference::first_byte(size_t s, size_t i) const {
  const int value = loaded_.program->steps()[s].inputs[i];
  return in_band(value) ? band_->starts[s][i] * bytes(value) / shapes_[value][1] : 0;
}

void fail_step(const Step& step, const std::invalid_argument& error) {
  const std::string what = "Step '" + step.name + "' (" + step.op + ") can't take these shapes: " + error.what() + ".";
  if (dynamic_cast<const SumsError*>(&error) != nullptr) throw InputSumsError(step.name, what);
  throw InputError(step.name, what);
}

}  // namespace qfx
