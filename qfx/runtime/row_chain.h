#pragma once
#include <memory>
#include <vector>

#include "core/row_work.h"
#include "core/work.h"

namespace qfx {

// Works on f32 [rows][width] as one: each reads what the one before it made, some rows at a time, which are in cache.
// Null unless all of them but the last are RowMaps, and that is a RowEnd.
std::unique_ptr<Work> chain_rows(std::vector<std::unique_ptr<Work>> works, int64_t rows, int64_t width);

}  // namespace qfx
