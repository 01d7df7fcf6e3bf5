#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "runtime/capi/qfx.hpp"

namespace qfx::command {

// Arguments that can't be followed: what is wrong, and what to do.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Named {
  std::string name;  // "": none is given
  std::string path;
};

struct Shape {
  std::string name;  // likewise
  Sizes sizes;
};

struct Arguments {
  std::string model;
  std::vector<Named> inputs;
  std::vector<Shape> shapes;
  std::string output;
  std::optional<uint64_t> seed;
  int64_t calls = 0;
  int32_t threads = 0;
  std::string isa;
  uint64_t max_memory = 0, max_products = 0;
  bool asks_info = false, asks_help = false, asks_version = false;
};

extern const char* const kUsage;

// Throws UsageError.
Arguments parse_arguments(std::span<char* const> words);

}  // namespace qfx::command
