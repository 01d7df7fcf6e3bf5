#include "runtime/capi/command/inputs.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

namespace qfx::command {
namespace {

// splitmix64: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

template <class T, class Make>
void fill(Array& array, Make make) {
  for (size_t at = 0; at < array.data.size(); at += sizeof(T)) {
    const T value = make();
    std::memcpy(array.data.data() + at, &value, sizeof value);
  }
}

// Floats from -1 to 1, codes of 8 bits of any value, and 0 or 1 elsewhere: every table has a row for them.
void fill(Array& array, Random& random) {
  const auto bit = [&] { return random.next() >> 63; };
  switch (array.dtype) {
    case QFX_FLOAT32:
      return fill<float>(array, [&] { return static_cast<float>(random.next() >> 40) * 0x1p-23F - 1; });
    case QFX_UINT8:
    case QFX_INT8:
      return fill<uint8_t>(array, [&] { return static_cast<uint8_t>(random.next() >> 56); });
    case QFX_INT32:
      return fill<int32_t>(array, [&] { return static_cast<int32_t>(bit()); });
    case QFX_INT64:
      return fill<int64_t>(array, [&] { return static_cast<int64_t>(bit()); });
    case QFX_BOOL:
      return fill<uint8_t>(array, [&] { return static_cast<uint8_t>(bit()); });
    default:
      throw UsageError("--random makes no " + std::string(qfx_dtype_name(array.dtype)) + ". Give a file.");
  }
}

std::string quoted(const Value& input) {
  return "Input '" + input.name + "'";
}

std::string names_of(const std::vector<Value>& inputs) {
  std::string names;
  for (const Value& input : inputs) names += (names.empty() ? "" : ", ") + input.name;
  return names.empty() ? "none" : names;
}

// The input of a name; without one, the first that `is_taken` does not say of.
size_t place_of(const std::string& name, const std::vector<Value>& inputs, const std::vector<char>& is_taken) {
  size_t place = 0;
  while (place < inputs.size() && (name.empty() ? is_taken[place] != 0 : inputs[place].name != name)) ++place;
  if (place < inputs.size() && is_taken[place] == 0) return place;
  const std::string what = name.empty()             ? "There are more files or shapes than inputs."
                           : place == inputs.size() ? "There is no input '" + name + "'."
                                                    : quoted(inputs[place]) + " is given twice.";
  throw UsageError(what + " The model takes " + names_of(inputs) + ": give each once.");
}

// Named ones first, so that the others fill the places that are left.
template <class Item>
std::vector<const Item*> placed(const std::vector<Item>& items, const std::vector<Value>& inputs,
                                std::vector<char> is_taken) {
  std::vector<const Item*> found(inputs.size(), nullptr);
  for (const bool with_names : {true, false}) {
    for (const Item& item : items) {
      if (item.name.empty() == with_names) continue;
      const size_t place = place_of(item.name, inputs, is_taken);
      found[place] = &item;
      is_taken[place] = 1;
    }
  }
  return found;
}

Array random_array(const Value& input, const Shape* shape, Random& random) {
  Array array{input.dtype, shape == nullptr ? input.sizes : shape->sizes, false, {}};
  const auto free = std::ranges::find(array.sizes, -1);
  if (free != array.sizes.end()) {
    throw UsageError(quoted(input) + " has a size that calls choose, '" +
                     input.size_names[static_cast<size_t>(free - array.sizes.begin())] +
                     "'. Give all of them: --shape " + input.name + "=SIZES.");
  }
  uint64_t bytes = qfx_dtype_size(input.dtype);
  for (const int64_t s : array.sizes) {
    if (s > 0 && bytes > (uint64_t{1} << 40) / static_cast<uint64_t>(s)) {
      throw UsageError(quoted(input) + " has too many elements. Give smaller sizes.");
    }
    bytes *= static_cast<uint64_t>(s);
  }
  array.data.resize(bytes);
  fill(array, random);
  return array;
}

}  // namespace

std::vector<Array> make_inputs(const Arguments& arguments, const std::vector<Value>& inputs) {
  const auto files = placed(arguments.inputs, inputs, std::vector<char>(inputs.size(), 0));
  std::vector<char> has_file;
  has_file.reserve(files.size());
  for (const Named* file : files) has_file.push_back(static_cast<char>(file != nullptr));
  const auto shapes = placed(arguments.shapes, inputs, has_file);
  Random random(arguments.seed.value_or(0));
  std::vector<Array> arrays;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (files[i] != nullptr) {
      arrays.push_back(read_npy(files[i]->path));
    } else if (arguments.seed) {
      arrays.push_back(random_array(inputs[i], shapes[i], random));
    } else {
      throw UsageError(quoted(inputs[i]) + " is missing. Give a file, " + inputs[i].name +
                       "=FILE.npy, or --random SEED.");
    }
  }
  return arrays;
}

}  // namespace qfx::command
