#include "runtime/serving/verify.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/errors.h"
#include "runtime/serving/sha256.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

constexpr int64_t kMostOfIntegers = 128;  // where no table says how many rows it has

// SplitMix64 (Steele, Lea and Flood, 2014).
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// 24 bits are all that a float32 holds.
float as_float(uint64_t number) {
  return static_cast<float>(static_cast<int64_t>(number >> 40) - (int64_t{1} << 23)) * 0x1p-22F;
}

template <class T>
void fill(std::span<std::byte> elements, Numbers numbers, uint64_t below) {
  for (size_t at = 0; at + sizeof(T) <= elements.size(); at += sizeof(T)) {
    const uint64_t number = numbers.next();
    T element{};
    if constexpr (std::is_floating_point_v<T>) {
      element = as_float(number);
    } else if constexpr (sizeof(T) == 1) {
      element = static_cast<T>(number >> 56);
    } else {
      element = static_cast<T>((number >> 32) % below);
    }
    std::memcpy(elements.data() + at, &element, sizeof element);
  }
}

// How many places indices have: fewer than what any step takes by them.
uint64_t least_places(const LoadedProgram& loaded, const Plan& plan) {
  std::vector<Dims> shapes;
  shapes.reserve(plan.values.size());
  for (const PlannedValue& value : plan.values) shapes.push_back(value.shape);
  int64_t least = -1;
  for (size_t s = 0; s < loaded.kernels.size(); ++s) {
    const int64_t places = loaded.kernels[s]->places(step_shapes(loaded, s, shapes));
    if (places >= 0) least = least < 0 ? places : std::min(least, places);
  }
  return static_cast<uint64_t>(std::max<int64_t>(least < 0 ? kMostOfIntegers : least, 1));
}

// Whether its numbers have to rise from 0, as zeros do.
bool are_rising(const LoadedProgram& loaded, int place) {
  if (place < 0) return false;
  const int value = loaded.program->inputs()[place];
  for (size_t s = 0; s < loaded.kernels.size(); ++s) {
    const int operand = loaded.kernels[s]->rising_operand();
    if (operand >= 0 && loaded.program->steps()[s].inputs[operand] == value) return true;
  }
  return false;
}

std::vector<AlignedBuffer> example_inputs(const Model& model, const Model::Call& call) {
  const uint64_t below = least_places(model.loaded(), *call.plan);
  std::vector<AlignedBuffer> made;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    const DType dtype = model.signature().inputs[i].dtype;
    const auto bytes = static_cast<size_t>(byte_size(call.inputs[i].shape, dtype));
    made.emplace_back(bytes);
    const bool is_zero = are_rising(model.loaded(), model.signature().inputs[i].place);
    fill_example(dtype, i, is_zero ? 1 : below, {made.back().data(), bytes});
  }
  return made;
}

// Every NaN with the same bits. infinity: its bits.
template <class Bits>
void unify_nans(std::span<std::byte> elements, Bits infinity) {
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  for (size_t at = 0; at + sizeof(Bits) <= elements.size(); at += sizeof(Bits)) {
    Bits bits = 0;
    std::memcpy(&bits, elements.data() + at, sizeof bits);
    if ((bits & static_cast<Bits>(~kSign)) <= infinity) continue;
    std::memset(elements.data() + at, 0xFF, sizeof bits);
  }
}

void add_output(Sha256& hash, DType dtype, const Dims& shape, std::span<std::byte> elements) {
  const std::string_view name = dtype_name(dtype);
  hash.add(std::as_bytes(std::span(name)));
  hash.add(std::as_bytes(std::span(shape)));
  if (dtype == DType::f32) unify_nans<uint32_t>(elements, 0x7F800000);
  if (dtype == DType::f16) unify_nans<uint16_t>(elements, 0x7C00);
  if (dtype == DType::bf16) unify_nans<uint16_t>(elements, 0x7F80);
  hash.add(elements);
}

void require_stated(const Cost& stated, const Cost& found) {
  const auto require = [](const char* what, uint64_t says, uint64_t takes) {
    if (says == takes) return;
    throw FileError("The file says that a call takes " + std::to_string(says) + " " + what + ".",
                    "It takes " + std::to_string(takes) + ".", "Do not trust it; save the model again with qfx.save.");
  };
  require("bytes of memory", stated.memory, found.memory);
  require("multiplications", stated.products, found.products);
}

std::shared_ptr<const Model::Call> prepare_example(Model& model) {
  std::vector<InputLayout> inputs;
  for (const ModelInput& i : model.signature().inputs) inputs.push_back({i.example, dense_strides(i.example)});
  return model.prepare(std::move(inputs));
}

}  // namespace

void fill_example(DType dtype, size_t index, uint64_t below, std::span<std::byte> elements) {
  const Numbers numbers(index);
  if (dtype == DType::f32) return fill<float>(elements, numbers, below);
  if (dtype == DType::s32) return fill<int32_t>(elements, numbers, std::min<uint64_t>(below, INT32_MAX));
  if (dtype == DType::s64) return fill<int64_t>(elements, numbers, below);
  fill<uint8_t>(elements, numbers, below);
  if (dtype == DType::boolean) {
    for (std::byte& b : elements) b &= std::byte{1};
  }
}

std::string hash_of_example(Model& model, int threads) {
  const Signature& signature = model.signature();
  const auto call = prepare_example(model);
  const std::vector<AlignedBuffer> inputs = example_inputs(model, *call);
  std::vector<AlignedBuffer> outputs;
  std::vector<const void*> in;
  std::vector<void*> out;
  in.reserve(inputs.size());
  for (const AlignedBuffer& input : inputs) in.push_back(input.data());
  for (size_t i = 0; i < signature.outputs.size(); ++i) {
    outputs.emplace_back(static_cast<size_t>(byte_size(model.output_shape(*call, i), signature.outputs[i].dtype)));
    out.push_back(outputs.back().data());
  }
  model.run(*call, in, out, threads);
  Sha256 hash;
  for (size_t i = 0; i < signature.outputs.size(); ++i) {
    add_output(hash, signature.outputs[i].dtype, model.output_shape(*call, i), {outputs[i].data(), outputs[i].size()});
  }
  return hash.hex();
}

Certificate verify(Model& model, int threads) {
  const auto call = prepare_example(model);
  const Cost cost = cost_of(call->plan->loaded, call->plan->inputs);
  require_stated(model.signature().cost, cost);
  return {hash_of_example(model, threads), cost};
}

}  // namespace qfx
