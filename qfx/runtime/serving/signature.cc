#include "runtime/serving/signature.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string_view>

#include "runtime/archive.h"
#include "runtime/errors.h"
#include "runtime/serving/conversion.h"

namespace qfx {

namespace {

constexpr uint32_t kVersion = 1;
constexpr const char* kWhere = "serving";

[[noreturn]] void refuse(const std::string& what) {
  throw ProgramError(kWhere, what);
}

// What a call converts.
bool may_be_other(const ModelInput& input, DType dtype) {
  return is_convertible(input.dtype, dtype);
}
bool may_be_other(const ModelOutput& output, DType dtype) {
  return output.dtype == DType::s8 && dtype == DType::u8;
}

// Names are told apart, and values are what the program says of them.
template <class Described>
void check_values(const std::vector<Described>& described, const Program& program, const std::vector<int>& ids,
                  const char* kind) {
  std::set<std::string_view> names;
  for (const Described& d : described) {
    const std::string what = std::string(kind) + " '" + d.name + "'";
    if (!names.insert(d.name).second) refuse(what + " is there twice");
    const bool is_known = d.place >= 0 && static_cast<size_t>(d.place) < ids.size();
    if (!is_known && d.place != -1) refuse(what + " has no place in the program");
    for (const NamedSize& s : d.shape) {
      if (s.size < -1 || (s.size == -1) == s.name.empty()) refuse(what + " has a size that is none");
    }
    if (!is_known) continue;
    const Value& value = program.values()[ids[d.place]];
    if (value.rank() != d.shape.size() || (value.dtype != d.dtype && !may_be_other(d, value.dtype))) {
      refuse(what + " is not what the program has there");
    }
  }
}

// What the program has is given once each.
template <class Described>
void check_places(const std::vector<Described>& described, size_t count, const char* kind) {
  std::vector<int> given(count, 0);
  for (const Described& d : described) {
    if (d.place >= 0) ++given[d.place];
  }
  const bool is_once = std::ranges::all_of(given, [](int n) { return n == 1; });
  if (!is_once) refuse(std::string(kind) + " of the program are not there once each");
}

bool fits(const std::vector<NamedSize>& sizes, const Dims& shape) {
  return std::ranges::equal(sizes, shape,
                            [](const NamedSize& s, int64_t size) { return s.size < 0 || s.size == size; });
}

// A shape that the input may have, but for the conditions, which are held against calls.
void check_example(const ModelInput& input) {
  const std::string what = "the example of input '" + input.name + "' is no call of the model";
  if (!fits(input.shape, input.example)) refuse(what);
  try {
    (void)element_count(input.example);
  } catch (const std::invalid_argument& error) {
    refuse(what + ": " + error.what());
  }
}

void check(const Signature& s, const Program& program) {
  check_values(s.inputs, program, program.inputs(), "input");
  check_values(s.outputs, program, program.outputs(), "output");
  check_places(s.inputs, program.inputs().size(), "inputs");
  check_places(s.outputs, program.outputs().size(), "outputs");
  for (const ModelInput& i : s.inputs) {
    if (!is_whole_bytes(i.dtype)) refuse("input '" + i.name + "' has elements without an address");
  }
  if (s.outputs.size() != program.outputs().size()) refuse("an output is not made");
  std::vector<size_t> ranks;
  ranks.reserve(s.inputs.size());
  for (const ModelInput& i : s.inputs) ranks.push_back(i.shape.size());
  for (const Condition& c : s.conditions) {
    if (!is_sound(c, ranks)) refuse("a condition of the inputs makes no sense");
  }
  for (const ModelInput& i : s.inputs) check_example(i);
}

std::string spelled(const std::vector<std::string>& sizes) {
  std::string text = "(";
  for (const std::string& size : sizes) text += (text.size() > 1 ? ", " : "") + size;
  return text + (sizes.size() == 1 ? ",)" : ")");
}

std::string spelled(const std::vector<NamedSize>& shape) {
  std::vector<std::string> sizes;
  sizes.reserve(shape.size());
  for (const NamedSize& s : shape) sizes.push_back(s.size < 0 ? s.name : std::to_string(s.size));
  return spelled(sizes);
}

std::string shape_of(const ModelInput& input, const Dims& shape) {
  std::vector<std::string> sizes;
  sizes.reserve(shape.size());
  for (const int64_t size : shape) sizes.push_back(std::to_string(size));
  return "nput '" + input.name + "' has shape " + spelled(sizes);
}

}  // namespace

std::string to_bytes(const Signature& signature) {
  ArchiveWriter writer;
  writer(kVersion);
  writer(signature);
  return std::move(writer.bytes());
}

Signature signature_of(std::span<const std::byte> bytes, const Program& program) {
  ArchiveReader reader(bytes, kWhere);
  uint32_t version = 0;
  reader(version);
  if (version != kVersion) {
    refuse("it is of version " + std::to_string(version) + ", and this qfx reads version " + std::to_string(kVersion));
  }
  Signature signature;
  reader(signature);
  if (!reader.is_at_end()) refuse("its tables go on behind their end");
  check(signature, program);
  return signature;
}

std::vector<InputLayout> example_of(const Signature& signature) {
  std::vector<InputLayout> taken;
  for (const ModelInput& i : signature.inputs) {
    if (i.place < 0) continue;
    taken.resize(std::max(taken.size(), static_cast<size_t>(i.place) + 1));
    taken[i.place] = {i.example, dense_strides(i.example)};
  }
  return taken;
}

void require_shapes(const Signature& signature, std::span<const Dims> shapes) {
  for (size_t i = 0; i < shapes.size(); ++i) {
    const ModelInput& input = signature.inputs[i];
    if (fits(input.shape, shapes[i])) continue;
    throw InputError(input.name, std::string("I") + shape_of(input, shapes[i]) + ", but the model takes " +
                                     spelled(input.shape) + ".");
  }
  for (const Condition& c : signature.conditions) {
    if (holds(c, shapes)) continue;
    std::string given;
    for (const size_t i : read_by(c)) {
      given += (given.empty() ? "I" : " and i") + shape_of(signature.inputs[i], shapes[i]);
    }
    throw InputError("inputs", given + ", but the model was captured for " + c.text + ".");
  }
}

}  // namespace qfx
