#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/loaded.h"
#include "runtime/plan.h"

namespace qfx {

// What one call takes; the same on every level, and for any number of threads.
struct Cost {
  // Bytes of constants, inputs and outputs, and of the program's other values the most that live at once, each in
  // memory of its own, if steps run in their order. Weights that are packed and threads' own memory are not in it.
  uint64_t memory = 0;
  // Multiply-accumulates of layers and of products of integers, those with padding too.
  uint64_t products = 0;

  bool operator==(const Cost&) const = default;
};

// Of inputs laid out like these. Throws InputError.
Cost cost_of(const std::shared_ptr<const LoadedProgram>& loaded, const std::vector<InputLayout>& inputs);

// Its memory alone: nothing is planned.
uint64_t value_memory(const LoadedProgram& loaded, const std::vector<InputLayout>& inputs);

// Bytes that a call takes here, with so many threads: packed weights, constants, inputs, outputs and working memory.
uint64_t memory_of(const Plan& plan, int threads);

uint64_t products_of(const Plan& plan);

// The sum, or the largest number.
uint64_t sum_of(std::span<const uint64_t> numbers) noexcept;

}  // namespace qfx
