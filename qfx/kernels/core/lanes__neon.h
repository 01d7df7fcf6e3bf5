#pragma once
// For the files of that level only.
#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(16)));

}  // namespace
}  // namespace qfx
