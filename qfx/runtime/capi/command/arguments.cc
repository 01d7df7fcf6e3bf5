#include "runtime/capi/command/arguments.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>

namespace qfx::command {

const char* const kUsage = R"(usage: qfx-run MODEL.qfx [[NAME=]FILE.npy ...] [options]

Runs a quantized model on arrays of numpy's files, and says what shapes its outputs have.

  --output PLACE        write the outputs: to a folder, or the only one to FILE.npy
  --random SEED         make the inputs that no file gives
  --shape [NAME=]SIZES  the shape of such an input, as 1,3,224,224
  --bench N             call the model N times, and print the median and the least time
  --threads N           use at most N threads instead of one a physical core
  --isa LEVEL           run on this instruction set level instead of the best one
  --max-memory BYTES    refuse a call that takes more memory
  --max-products N      refuse a call that takes more multiplications
  --info                print inputs, outputs, metadata and level, and run only what inputs are given for
  --version, --help     print these

Exit status: 0; 1 where the model, an input or a call fails; 2 for arguments that can't be followed.
)";

namespace {

template <class Number>
Number number_of(std::string_view option, std::string_view text, Number least) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    throw UsageError("'" + std::string(text) + "' is no number for " + std::string(option) +
                     ". Give a whole number from " + std::to_string(least) + " to " +
                     std::to_string(std::numeric_limits<Number>::max()) + ".");
  }
  return value;
}

// What stands before the first '=' and behind it; a name has no '/', which a path may have.
std::pair<std::string, std::string_view> split_name(std::string_view word) {
  const size_t at = word.find('=');
  if (at == std::string_view::npos || word.substr(0, at).find('/') != std::string_view::npos) return {"", word};
  return {std::string(word.substr(0, at)), word.substr(at + 1)};
}

void add_shape(Arguments& a, std::string_view option, std::string_view word) {
  auto [name, rest] = split_name(word);
  Shape shape{std::move(name), {}};
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    shape.sizes.push_back(number_of<int64_t>(option, rest.substr(0, comma), 0));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  a.shapes.push_back(std::move(shape));
}

using Take = void (*)(Arguments& a, std::string_view option, std::string_view value);
struct Option {
  std::string_view name;
  Take take;
};
constexpr Option kOptions[] = {
    {"--output", [](Arguments& a, std::string_view, std::string_view v) { a.output = v; }},
    {"--random", [](Arguments& a, std::string_view o, std::string_view v) { a.seed = number_of<uint64_t>(o, v, 0); }},
    {"--shape", add_shape},
    {"--bench", [](Arguments& a, std::string_view o, std::string_view v) { a.calls = number_of<int32_t>(o, v, 1); }},
    {"--threads",
     [](Arguments& a, std::string_view o, std::string_view v) { a.threads = number_of<int32_t>(o, v, 1); }},
    {"--isa", [](Arguments& a, std::string_view, std::string_view v) { a.isa = v; }},
    {"--max-memory",
     [](Arguments& a, std::string_view o, std::string_view v) { a.max_memory = number_of<uint64_t>(o, v, 1); }},
    {"--max-products",
     [](Arguments& a, std::string_view o, std::string_view v) { a.max_products = number_of<uint64_t>(o, v, 1); }},
};

struct Switch {
  std::string_view name;
  bool Arguments::* flag;
};
constexpr Switch kSwitches[] = {{"--info", &Arguments::asks_info},
                                {"--help", &Arguments::asks_help},
                                {"-h", &Arguments::asks_help},
                                {"--version", &Arguments::asks_version}};

void add_word(Arguments& a, std::string_view word) {
  if (a.model.empty()) {
    a.model = word;
    return;
  }
  const auto [name, path] = split_name(word);
  a.inputs.push_back({name, std::string(path)});
}

// Takes an option and its value, which is the next word or stands behind '='. Returns how many words that is.
size_t take_option(Arguments& a, std::string_view word, std::span<char* const> rest) {
  const size_t at = word.find('=');
  const std::string_view name = word.substr(0, at);
  const auto* const flag = std::ranges::find(kSwitches, word, &Switch::name);
  if (flag != std::end(kSwitches)) {
    a.*(flag->flag) = true;
    return 1;
  }
  const auto* const option = std::ranges::find(kOptions, name, &Option::name);
  if (option == std::end(kOptions)) {
    throw UsageError("There is no option " + std::string(word) + ". See qfx-run --help for those that there are.");
  }
  const bool is_next = at == std::string_view::npos;
  const std::string_view value = !is_next ? word.substr(at + 1) : rest.empty() ? std::string_view() : rest[0];
  if (value.empty()) throw UsageError(std::string(name) + " has no value. See qfx-run --help for what it takes.");
  option->take(a, name, value);
  return is_next ? 2 : 1;
}

}  // namespace

Arguments parse_arguments(std::span<char* const> words) {
  Arguments a;
  bool are_options = true;  // until a word that is "--"
  for (size_t i = 0; i < words.size();) {
    const std::string_view word = words[i];
    if (are_options && word == "--") {
      are_options = false;
      ++i;
    } else if (are_options && word.size() > 1 && word[0] == '-') {
      i += take_option(a, word, words.subspan(i + 1));
    } else {
      add_word(a, word);
      ++i;
    }
  }
  if (a.model.empty() && !a.asks_help && !a.asks_version) {
    throw UsageError("No model is given. Name a file that qfx.save wrote: qfx-run MODEL.qfx x.npy.");
  }
  return a;
}

}  // namespace qfx::command
