// qfx-run: a model of a .qfx file on arrays of .npy files. A client of the library like any other.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/capi/command/arguments.h"
#include "runtime/capi/command/inputs.h"
#include "runtime/capi/command/npy.h"
#include "runtime/capi/qfx.hpp"

namespace qfx::command {
namespace {

enum ExitStatus : int { done = 0, failed = 1, misused = 2 };

// Names come from a file: what a terminal would follow is shown, not sent.
std::string printable(const std::string& text) {
  std::string shown;
  for (const char c : text) shown += c >= 0 && (c < ' ' || c == '\x7f') ? '?' : c;
  return shown;
}

std::string described(const std::string& name, qfx_dtype dtype, const std::vector<std::string>& sizes) {
  std::string text = printable(name) + ": " + qfx_dtype_name(dtype) + " (";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i > 0 ? ", " : "") + printable(sizes[i]);
  return text + (sizes.size() == 1 ? ",)" : ")");
}

std::string described(const Value& value) {
  std::vector<std::string> sizes;
  sizes.reserve(value.sizes.size());
  for (size_t i = 0; i < value.sizes.size(); ++i) {
    sizes.push_back(value.sizes[i] < 0 ? value.size_names[i] : std::to_string(value.sizes[i]));
  }
  return described(value.name, value.dtype, sizes);
}

void print_info(const Model& model) {
  for (const Value& v : model.inputs()) std::printf("input     %s\n", described(v).c_str());
  for (const Value& v : model.outputs()) std::printf("output    %s\n", described(v).c_str());
  std::printf("isa       %s\n", model.isa().c_str());
  std::printf("metadata  %s\n", printable(model.metadata()).c_str());
}

// ---------------------------------------------------------------- outputs

// A name of a model's as that of a file, which lies in its folder and has a name of its own.
std::string file_name(const std::string& name, std::set<std::string>& used) {
  std::string safe;
  for (const char c : name) {
    const bool fits =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    safe += fits ? c : '_';
  }
  if (safe.empty() || safe[0] == '.') safe = "_" + safe;
  while (!used.insert(safe).second) safe += '_';
  return safe + ".npy";
}

bool is_npy(const std::string& path) {
  return path.ends_with(".npy");
}

std::vector<std::string> output_paths(const std::string& place, const std::vector<Value>& outputs) {
  if (is_npy(place)) return {place};
  if (mkdir(place.c_str(), 0777) != 0 && errno != EEXIST) {
    throw std::runtime_error("'" + place + "' can't be made: " + std::strerror(errno) + ". Check the path.");
  }
  std::vector<std::string> paths;
  paths.reserve(outputs.size());
  std::set<std::string> used;
  for (const Value& v : outputs) paths.push_back(place + "/" + file_name(v.name, used));
  return paths;
}

void require_place(const std::string& place, const std::vector<Value>& outputs) {
  if (is_npy(place) && outputs.size() != 1) {
    throw UsageError("The model has " + std::to_string(outputs.size()) + " outputs, and '" + place +
                     "' is one file. Give a folder.");
  }
  for (const Value& v : outputs) {
    if (!place.empty() && npy_name(v.dtype) == nullptr) {
      throw UsageError("Output '" + v.name + "' is of " + qfx_dtype_name(v.dtype) +
                       ", which numpy does not have. Leave --output out.");
    }
  }
}

void put_out(const Results& results, const std::vector<Value>& outputs, const std::string& place) {
  std::vector<std::string> paths;
  if (!place.empty()) paths = output_paths(place, outputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::vector<std::string> sizes;
    for (const int64_t s : results.sizes(i)) sizes.push_back(std::to_string(s));
    std::string line = described(outputs[i].name, outputs[i].dtype, sizes);
    if (!paths.empty()) {
      write_npy(paths[i], results[i]);
      line += " in " + printable(paths[i]);
    }
    std::printf("%s\n", line.c_str());
  }
}

// ---------------------------------------------------------------- calls

void bench(const Model& model, const std::vector<Tensor>& tensors, int64_t calls) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  for (int64_t i = 0; i < calls; ++i) {
    const Clock::time_point begin = Clock::now();
    const Results results = model.run(tensors);
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  std::ranges::sort(milliseconds);
  std::printf("median %.3f ms, least %.3f ms, of %zu calls\n", milliseconds[milliseconds.size() / 2], milliseconds[0],
              milliseconds.size());
}

void run(const Arguments& a) {
  qfx_options options = QFX_OPTIONS;
  options.isa = a.isa.empty() ? nullptr : a.isa.c_str();
  options.max_memory = a.max_memory;
  options.max_products = a.max_products;
  options.threads = a.threads;
  const Model model(a.model, options);
  const std::vector<Value> inputs = model.inputs(), outputs = model.outputs();
  require_place(a.output, outputs);
  if (a.asks_info) print_info(model);
  if (a.asks_info && a.inputs.empty() && !a.seed) return;
  const std::vector<Array> arrays = make_inputs(a, inputs);
  std::vector<Tensor> tensors;
  tensors.reserve(arrays.size());
  for (const Array& array : arrays) tensors.push_back(array.tensor());
  put_out(model.run(tensors), outputs, a.output);
  if (a.calls > 0) bench(model, tensors, a.calls);
}

ExitStatus tell(const std::exception& error, ExitStatus status) {
  std::fprintf(stderr, "qfx-run: %s\n", printable(error.what()).c_str());
  return status;
}

ExitStatus command(std::span<char* const> words) {
  try {
    const Arguments arguments = parse_arguments(words);
    if (arguments.asks_help) {
      std::fputs(kUsage, stdout);
    } else if (arguments.asks_version) {
      std::printf("qfx-run %s\n", qfx_version_text());
    } else {
      run(arguments);
    }
    return done;
  } catch (const UsageError& error) {
    return tell(error, misused);
  } catch (const Error& error) {
    return tell(error, error.status() == QFX_ERROR_ARGUMENT ? misused : failed);
  } catch (const std::exception& error) {
    return tell(error, failed);
  }
}

}  // namespace
}  // namespace qfx::command

int main(int count, char** words) {
  return qfx::command::command({words + 1, static_cast<size_t>(count > 0 ? count - 1 : 0)});
}
