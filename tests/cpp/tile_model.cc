#include "tile_model.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace qfx::tile {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw Fault(std::string("AMX model: ") + what);
}

bool all_zero(const uint8_t* begin, const uint8_t* end) {
  return std::all_of(begin, end, [](uint8_t byte) { return byte == 0; });
}

}  // namespace

void Model::ldtilecfg(const void* config) {
  const auto* bytes = static_cast<const uint8_t*>(config);
  const int palette = bytes[0];
  require(palette <= 1, "no such palette");
  if (palette == 0) return tilerelease();
  require(bytes[1] == 0, "start_row is not 0: it is for instructions that were interrupted, which is not modeled");
  require(all_zero(bytes + 2, bytes + 16), "reserved bytes 2 to 15 are not zero");
  require(all_zero(bytes + 16 + 2 * kTiles, bytes + 48), "bytes of a row of a tile beyond the last");
  require(all_zero(bytes + 48 + kTiles, bytes + 64), "rows of a tile beyond the last");
  Tile tiles[kTiles];
  for (int t = 0; t < kTiles; ++t) {
    tiles[t].row_bytes = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8;
    tiles[t].rows = bytes[48 + t];
    require(tiles[t].row_bytes <= kRowBytes && tiles[t].rows <= kRows, "a tile is larger than its register");
    require((tiles[t].row_bytes == 0) == (tiles[t].rows == 0), "a tile is empty in one direction only");
  }
  std::copy(std::begin(tiles), std::end(tiles), std::begin(tiles_));
  configured_ = true;
}

void Model::tilerelease() noexcept {
  std::fill(std::begin(tiles_), std::end(tiles_), Tile{});
  configured_ = false;
}

const Model::Tile& Model::valid(int tile) const {
  require(configured_, "tiles are not configured");
  require(tile >= 0 && tile < kTiles, "no such tile");
  require(tiles_[tile].rows > 0, "a tile is not configured");
  return tiles_[tile];
}

Model::Tile& Model::valid(int tile) {
  return const_cast<Tile&>(std::as_const(*this).valid(tile));
}

void Model::tileloadd(int tile, const void* base, int64_t stride) {
  Tile& t = valid(tile);
  std::memset(t.data, 0, sizeof t.data);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(t.data[r], static_cast<const uint8_t*>(base) + r * stride, static_cast<size_t>(t.row_bytes));
  }
}

void Model::tilestored(int tile, void* base, int64_t stride) const {
  const Tile& t = valid(tile);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(static_cast<uint8_t*>(base) + r * stride, t.data[r], static_cast<size_t>(t.row_bytes));
  }
}

void Model::tdpbusd(int c_tile, int a_tile, int b_tile) {
  Tile& c = valid(c_tile);
  const Tile &a = valid(a_tile), &b = valid(b_tile);
  require(c_tile != a_tile && c_tile != b_tile && a_tile != b_tile, "TDPBUSD names a tile twice");
  require(c.row_bytes % 4 == 0 && a.row_bytes % 4 == 0 && b.row_bytes % 4 == 0, "rows are not of whole double words");
  require(a.rows == c.rows, "the rows of A and C differ");
  require(b.row_bytes == c.row_bytes, "the columns of B and C differ");
  require(a.row_bytes / 4 == b.rows, "the columns of A are not the rows of B");
  for (int k = 0; k < b.rows; ++k) {
    if (all_zero(b.data[k], b.data[k] + kRowBytes)) continue;  // weights often are; no model is fast otherwise
    int16_t weights[4][kColumns];
    for (int n = 0; n < kColumns; ++n) {
      for (int i = 0; i < 4; ++i) weights[i][n] = static_cast<int8_t>(b.data[k][4 * n + i]);
    }
    for (int m = 0; m < c.rows; ++m) {
      uint32_t sums[kColumns];  // modulo 2^32
      std::memcpy(sums, c.data[m], sizeof sums);
      for (int i = 0; i < 4; ++i) {
        const int16_t x = a.data[m][4 * k + i];
        for (int n = 0; n < kColumns; ++n) sums[n] += static_cast<uint32_t>(x * weights[i][n]);
      }
      std::memcpy(c.data[m], sums, sizeof sums);
    }
  }
}

Model& model() noexcept {
  static thread_local Model tiles;
  return tiles;
}

}  // namespace qfx::tile
