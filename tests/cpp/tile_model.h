#pragma once
#include <cstdint>
#include <stdexcept>

namespace qfx::tile {

// What an instruction would raise #GP or #UD for.
struct Fault : std::logic_error {
  using std::logic_error::logic_error;
};

// The tile registers of palette 1 and the instructions of AMX-TILE and AMX-INT8 on them, as the Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2, defines them. Each throws Fault where the instruction faults.
class Model {
 public:
  void ldtilecfg(const void* config);  // 64 bytes
  void tilerelease() noexcept;
  void tileloadd(int tile, const void* base, int64_t stride);
  void tilestored(int tile, void* base, int64_t stride) const;
  void tdpbusd(int c, int a, int b);
  bool configured() const noexcept { return configured_; }

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64, kColumns = 16;
  struct Tile {
    int rows = 0;
    int row_bytes = 0;
    uint8_t data[kRows][kRowBytes] = {};
  };

  const Tile& valid(int tile) const;
  Tile& valid(int tile);

  bool configured_ = false;
  Tile tiles_[kTiles];
};

// The calling thread's.
Model& model() noexcept;

}  // namespace qfx::tile
