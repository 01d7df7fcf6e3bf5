#include "runtime/serving/model.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "runtime/errors.h"
#include "runtime/frame.h"
#include "runtime/program_bytes.h"
#include "runtime/serving/container.h"
#include "runtime/serving/conversion.h"
#include "runtime/serving/cost.h"
#include "runtime/serving/packing.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

constexpr std::string_view kServing = "serving", kProgram = "program";
constexpr std::string_view kPacked = "pack_";

// Sections that say how a model is called in torch, and more of it: nothing here needs them.
constexpr std::string_view kOthers[] = {"call", "parts", "model", "tensors"};

std::span<const std::byte> named(const std::vector<Section>& sections, std::string_view name) {
  for (const Section& s : sections) {
    if (s.name == name) return s.content;
  }
  return {};
}

void require_known(const std::vector<Section>& sections, const std::string& where) {
  for (const Section& s : sections) {
    const bool is_known = s.name == kServing || s.name == kProgram || std::ranges::count(kOthers, s.name) > 0;
    if (is_known || s.is_optional) continue;
    throw FileError(where + " has a section '" + s.name + "' that this qfx does not know.",
                    "It is not marked as one that a reader may skip.", "Update qfx.");
  }
}

void require_below(uint64_t needed, const std::optional<uint64_t>& limit, const std::string& what) {
  if (!limit || needed <= *limit) return;
  const std::string number = needed == UINT64_MAX ? "more than can be counted," : std::to_string(needed) + " " + what;
  throw LimitError("limits", "The call takes " + number + ", and the limit is " + std::to_string(*limit) + ".");
}

constexpr const char* kMemory = "bytes of memory";

// Codes from 0 to 255 as those from -128 to 127.
void shift_codes(uint8_t* codes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) codes[i] ^= 0x80;
}

}  // namespace

Model::Model(std::span<const std::byte> file, const std::shared_ptr<const void>& owner, const std::string& where,
             Isa isa, Limits limits)
    : limits_(limits) {
  load(file, owner, where, isa);
}

Model::Model(std::shared_ptr<const MappedFile> file, Isa isa, Limits limits) : limits_(limits), file_(std::move(file)) {
  load(file_->bytes(), file_, file_->where(), isa);
}

void Model::load(std::span<const std::byte> file, const std::shared_ptr<const void>& owner, const std::string& where,
                 Isa isa) {
  const std::vector<Section> sections = sections_of(file, where);
  require_known(sections, where);
  const auto serving = named(sections, kServing), content = named(sections, kProgram);
  if (serving.empty() || content.empty()) {
    throw FileError(where + " can't be run without torch.",
                    "It holds a model of which torch runs a part, or was written by a qfx that could not say how a "
                    "model is called without it.",
                    "Save the quantized model with qfx.save(model, path, serving=True), which names such parts.");
  }
  require_below(content.size(), limits_.memory, kMemory);
  const std::shared_ptr<const Program> program = program_of(content, owner);
  signature_ = signature_of(serving, *program);
  auto packed = PackedParts::of(named(sections, std::string(kPacked) + isa_name(isa)), owner, content, isa);
  is_packed_ = packed.has_value();
  executable_ = std::make_unique<Executable>(program, isa, Release::sharing, packed ? &*packed : nullptr,
                                             limits_.memory.value_or(UINT64_MAX));
}

DType Model::taken_as(const ModelInput& input) const {
  const Program& program = *executable_->loaded().program;
  return input.place < 0 ? input.dtype : program.values()[program.inputs()[input.place]].dtype;
}

bool Model::is_shifted(const ModelOutput& output) const {
  const Program& program = *executable_->loaded().program;
  return output.dtype != program.values()[program.outputs()[output.place]].dtype;
}

std::shared_ptr<const Model::Call> Model::prepare(std::vector<InputLayout> inputs) {
  std::vector<Dims> shapes;
  shapes.reserve(inputs.size());
  for (const InputLayout& input : inputs) shapes.push_back(input.shape);
  require_shapes(signature_, shapes);
  std::vector<InputLayout> taken(executable_->loaded().program->inputs().size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ModelInput& input = signature_.inputs[i];
    if (input.place < 0) continue;
    const bool is_converted = taken_as(input) != input.dtype;
    taken[input.place] = is_converted ? InputLayout{inputs[i].shape, dense_strides(inputs[i].shape)} : inputs[i];
  }
  if (limits_.memory) require_below(value_memory(executable_->loaded(), taken), limits_.memory, kMemory);
  auto plan = executable_->plan(std::move(taken));
  if (limits_.products) require_below(products_of(*plan), limits_.products, "multiplications");
  auto call = std::make_shared<const Call>(Call{std::move(inputs), std::move(plan)});
  require_memory(*call, 1);  // and with more threads when they are known
  return call;
}

void Model::require_memory(const Call& call, int threads) const {
  if (!limits_.memory) return;
  std::vector<uint64_t> needed = {memory_of(*call.plan, team_size(*call.plan, threads))};
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    const DType dtype = taken_as(signature_.inputs[i]);
    if (dtype != signature_.inputs[i].dtype) {
      needed.push_back(static_cast<uint64_t>(byte_size(call.inputs[i].shape, dtype)));
    }
  }
  require_below(sum_of(needed), limits_.memory, kMemory);
}

void Model::run(const Call& call, std::span<const void* const> in, std::span<void* const> out, int threads) {
  if (file_ != nullptr) file_->require_whole();
  const Plan& plan = *call.plan;
  require_memory(call, threads);
  std::vector<const void*> taken(plan.inputs.size());
  std::vector<void*> made(plan.output_shapes.size());
  std::vector<AlignedBuffer> converted;
  for (size_t i = 0; i < in.size(); ++i) {
    const ModelInput& input = signature_.inputs[i];
    if (input.place < 0) continue;
    taken[input.place] = in[i];
    const DType dtype = taken_as(input);
    if (dtype == input.dtype) continue;
    converted.emplace_back(static_cast<size_t>(byte_size(call.inputs[i].shape, dtype)));
    convert(in[i], input.dtype, call.inputs[i], converted.back().data(), dtype);
    taken[input.place] = converted.back().data();
  }
  for (size_t i = 0; i < out.size(); ++i) made[signature_.outputs[i].place] = out[i];
  executable_->run(plan, taken, made, threads);
  for (size_t i = 0; i < out.size(); ++i) {
    if (is_shifted(signature_.outputs[i])) {
      shift_codes(static_cast<uint8_t*>(out[i]), element_count(output_shape(call, i)));
    }
  }
}

}  // namespace qfx
