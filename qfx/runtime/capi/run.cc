// The functions of qfx.h about calls, and the hooks.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/capi/failure.h"
#include "runtime/capi/handles.h"
#include "runtime/capi/qfx.h"
#include "runtime/errors.h"
#include "runtime/serving/model.h"
#include "runtime/shapes.h"
#include "runtime/threads.h"

namespace qfx::capi {
namespace {

constexpr const char* kTellInput = "Give a tensor as qfx_input describes it.";

void require_count(size_t given, size_t taken, const std::string& what) {
  if (given == taken) return;
  throw ArgumentError(
      std::to_string(given) + " " + what + "s are given, and the model has " + std::to_string(taken) + ".",
      "Give one for each " + what + " of the model.");
}

std::string named(const char* kind, const std::string& name) {
  return std::string(kind) + " '" + name + "'";
}

bool is_aligned(const void* data, DType dtype) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(element_size(dtype)) == 0;
}

// How a tensor lies. Its sizes are those that a model may take: not negative, not too many.
InputLayout layout_of(const qfx_tensor& tensor, const ModelInput& input) {
  const std::string name = named("Input", input.name);
  if (tensor.dtype != static_cast<qfx_dtype>(input.dtype)) {
    const char* given = qfx_dtype_name(tensor.dtype);
    throw InputError(input.name, name + " has dtype " + (given == nullptr ? "none that there is" : given) +
                                     ", and the model takes " + dtype_row(input.dtype).torch + ".");
  }
  if (tensor.rank != static_cast<int32_t>(input.shape.size())) {
    throw InputError(input.name, name + " has rank " + std::to_string(tensor.rank) + ", and the model takes rank " +
                                     std::to_string(input.shape.size()) + ".");
  }
  if (tensor.rank > 0 && tensor.sizes == nullptr) throw ArgumentError(name + " has no sizes.", kTellInput);
  InputLayout layout;
  layout.shape.assign(tensor.sizes, tensor.sizes + tensor.rank);
  try {
    element_count(layout.shape);
  } catch (const std::invalid_argument& error) {
    throw InputError(input.name, name + ": " + error.what() + ".");
  }
  layout.strides =
      tensor.strides == nullptr ? dense_strides(layout.shape) : Dims(tensor.strides, tensor.strides + tensor.rank);
  return layout;
}

std::vector<InputLayout> layouts_of(const qfx_model* model, const qfx_tensor* tensors, size_t count) {
  if (model == nullptr) throw ArgumentError("model is NULL.", "Give one that qfx_open made.");
  const std::vector<ModelInput>& inputs = model->model->signature().inputs;
  require_count(count, inputs.size(), "input");
  if (tensors == nullptr && count > 0) throw ArgumentError("inputs is NULL.", kTellInput);
  std::vector<InputLayout> layouts;
  layouts.reserve(count);
  for (size_t i = 0; i < count; ++i) layouts.push_back(layout_of(tensors[i], inputs[i]));
  return layouts;
}

std::shared_ptr<const Model::Call> prepared(const qfx_model* model, const qfx_tensor* tensors, size_t count) {
  std::vector<InputLayout> layouts = layouts_of(model, tensors, count);
  return model->model->prepare(std::move(layouts));
}

std::vector<const void*> data_of(const qfx_model* model, const Model::Call& call, const qfx_tensor* tensors) {
  std::vector<const void*> data;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    const ModelInput& input = model->model->signature().inputs[i];
    const bool is_empty = element_count(call.inputs[i].shape) == 0;
    if (tensors[i].data == nullptr && !is_empty) {
      throw ArgumentError(named("Input", input.name) + " has no data.", kTellInput);
    }
    if (!is_aligned(tensors[i].data, input.dtype)) {
      throw ArgumentError(named("Input", input.name) + " does not lie where its elements can be read.",
                          "Align its data to " + std::to_string(element_size(input.dtype)) + " bytes.");
    }
    data.push_back(tensors[i].data);
  }
  return data;
}

size_t output_bytes(const qfx_model* model, const Model::Call& call, size_t i) {
  return static_cast<size_t>(
      byte_size(model->model->output_shape(call, i), model->model->signature().outputs[i].dtype));
}

std::vector<void*> places_of(const qfx_model* model, const Model::Call& call, const qfx_buffer* buffers, size_t count) {
  const std::vector<ModelOutput>& outputs = model->model->signature().outputs;
  require_count(count, outputs.size(), "output");
  if (buffers == nullptr && count > 0) throw ArgumentError("outputs is NULL.", "Give a buffer an output.");
  std::vector<void*> places;
  for (size_t i = 0; i < count; ++i) {
    const size_t needed = output_bytes(model, call, i);
    const std::string name = named("Output", outputs[i].name);
    const size_t given = buffers[i].data == nullptr ? 0 : buffers[i].bytes;
    if (given < needed) {
      throw ArgumentError(
          name + " takes " + std::to_string(needed) + " bytes, and its buffer has " + std::to_string(given) + ".",
          "Give one of the sizes that qfx_output_sizes tells.");
    }
    if (!is_aligned(buffers[i].data, outputs[i].dtype)) {
      throw ArgumentError(name + " can't be written to this buffer.",
                          "Align it to " + std::to_string(element_size(outputs[i].dtype)) + " bytes.");
    }
    places.push_back(buffers[i].data);
  }
  return places;
}

std::unique_ptr<qfx_results> room_for(const qfx_model* model, const Model::Call& call) {
  auto results = std::make_unique<qfx_results>();
  const std::vector<ModelOutput>& outputs = model->model->signature().outputs;
  results->sizes.reserve(outputs.size());  // what is pointed at stays where it is
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Dims& sizes = results->sizes.emplace_back(model->model->output_shape(call, i));
    const AlignedBuffer& memory = results->memory.emplace_back(output_bytes(model, call, i));
    results->tensors.push_back({memory.data(), static_cast<qfx_dtype>(outputs[i].dtype),
                                static_cast<int32_t>(sizes.size()), sizes.data(), nullptr});
  }
  return results;
}

}  // namespace
}  // namespace qfx::capi

using namespace qfx::capi;

extern "C" {

qfx_status qfx_output_sizes(qfx_model* model, const qfx_tensor* inputs, size_t input_count, size_t output,
                            int64_t* sizes) {
  return guarded([&] {
    const auto call = prepared(model, inputs, input_count);
    if (output >= model->outputs.count()) {
      throw ArgumentError("There is no output " + std::to_string(output) + ": the model has " +
                              std::to_string(model->outputs.count()) + ".",
                          "Count from 0.");
    }
    const qfx::Dims& shape = model->model->output_shape(*call, output);
    if (sizes == nullptr && !shape.empty()) throw ArgumentError("sizes is NULL.", "Give room for the output's rank.");
    std::ranges::copy(shape, sizes);
  });
}

qfx_status qfx_run(qfx_model* model, const qfx_tensor* inputs, size_t input_count, const qfx_buffer* outputs,
                   size_t output_count) {
  return guarded([&] {
    const auto call = prepared(model, inputs, input_count);
    const auto in = data_of(model, *call, inputs);
    const auto out = places_of(model, *call, outputs, output_count);
    model->model->run(*call, in, out, model->threads.load());
  });
}

qfx_status qfx_run_new(qfx_model* model, const qfx_tensor* inputs, size_t input_count, qfx_results** results) {
  if (results != nullptr) *results = nullptr;
  return guarded([&] {
    if (results == nullptr) throw ArgumentError("results is NULL.", "Give a pointer.");
    const auto call = prepared(model, inputs, input_count);
    const auto in = data_of(model, *call, inputs);
    auto made = room_for(model, *call);
    std::vector<void*> out;
    for (const qfx::AlignedBuffer& memory : made->memory) out.push_back(memory.data());
    model->model->run(*call, in, out, model->threads.load());
    *results = made.release();
  });
}

const qfx_tensor* qfx_result(const qfx_results* results, size_t index) {
  return results == nullptr || index >= results->tensors.size() ? nullptr : &results->tensors[index];
}

void qfx_results_free(qfx_results* results) {
  delete results;
}

void qfx_set_thread_pool(qfx_parallel parallel, void* pool) {
  qfx::set_thread_pool(parallel, pool);
}

qfx_status qfx_set_allocator(qfx_allocate allocate, qfx_release release, void* allocator) {
  return guarded([&] {
    if ((allocate == nullptr) != (release == nullptr)) {
      throw ArgumentError("One of the functions of an allocator is NULL.", "Give both, or none.");
    }
    const qfx::Allocator chosen{allocate, release, allocator};
    qfx::set_allocator(allocate == nullptr ? nullptr : &chosen);
  });
}

}  // extern "C"
