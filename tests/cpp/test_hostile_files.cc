#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "harness.h"
#include "hostile_file.h"

using namespace qfx;
using namespace qfx::test;

namespace {

constexpr size_t kStride = 211;  // of damages that are tried here; `make fuzz` tries others, and in the end all

std::vector<std::string> kept_files() {
  std::vector<std::string> paths;
  for (const char* folder : {QFX_TEST_DATA "/steps", QFX_FUZZ_CORPUS}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".qfx") paths.push_back(entry.path());
    }
  }
  std::ranges::sort(paths);
  return paths;
}

}  // namespace

TEST(files_packed_again_are_the_same) {
  for (const std::string& path : kept_files()) {
    const Content file = content_of(path);
    CHECK(packed(parts_of(file)) == file);
    CHECK(resealed(file) == file);
  }
}

TEST(files_damaged_and_sealed_again_are_refused_or_run_alike_on_all_levels) {
  Tally tally;
  size_t first = 0;
  for (const std::string& path : kept_files()) {
    const Content file = content_of(path);
    take(file, tally);
    take_damaged(file, first++ % kStride, kStride, tally);
  }
  CHECK(tally.ran > 0 && tally.refused > tally.ran);
  CHECK_EQ(tally.differing, 0);
  CHECK_EQ(tally.unsound, 0);
}
