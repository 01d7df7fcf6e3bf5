#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/dtype.h"
#include "runtime/serving/cost.h"
#include "runtime/serving/model.h"

namespace qfx {

// What a model computes, in short: who has the same file has the same certificate, on every CPU, level and number of
// threads.
struct Certificate {
  std::string hash;  // SHA-256 of the outputs, in hexadecimal: of each its type's name, its shape and its elements
  Cost cost;         // of the call: what the file says of it
};

// Of a call with the file's example shapes and numbers that are the same everywhere (fill_example). A NaN counts as one
// number, whatever its bits. threads: as Executable's. Throws FileError where the file states other costs than the call
// has, and what Model's members throw.
Certificate verify(Model& model, int threads);

// Its hash alone, whatever costs the file states.
std::string hash_of_example(Model& model, int threads);

// Elements of input `index`, of any number: floats from -2 to 2, codes of every value, integers from 0 up to `below`.
void fill_example(DType dtype, size_t index, uint64_t below, std::span<std::byte> elements);

}  // namespace qfx
