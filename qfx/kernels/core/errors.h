#pragma once
#include <stdexcept>

namespace qfx {

// Sizes that make a product whose sums s32 may not hold: one that is planned for smaller sizes runs.
struct SumsError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace qfx
