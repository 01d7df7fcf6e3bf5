#include <cstring>
#include <vector>

#include "core/tile__amx.h"
#include "harness.h"
#include "tile_model.h"

using namespace qfx;
using test::Rng;

namespace {

// C of rows x columns s32, A of rows x depth u8, B of depth / 4 x columns times four s8, in tiles 0, 1 and 2.
tile::Config config_of(int rows, int columns, int depth) {
  tile::Config config;
  const auto set = [&](int t, int tile_rows, int row_bytes) {
    config.rows[t] = static_cast<uint8_t>(tile_rows);
    config.row_bytes[t] = static_cast<uint16_t>(row_bytes);
  };
  set(0, rows, 4 * columns);
  set(1, rows, depth);
  set(2, depth / 4, 4 * columns);
  return config;
}

}  // namespace

TEST(tile_model_multiplies_tiles_of_every_size) {
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    const auto rows = static_cast<int>(rng.integer(1, 16)), columns = static_cast<int>(rng.integer(1, 16));
    const auto depth = static_cast<int>(4 * rng.integer(1, 16));
    const int64_t a_stride = rng.integer(depth, 100), b_stride = rng.integer(4 * columns, 100);
    test::GuardedBuffer a(static_cast<size_t>((rows - 1) * a_stride + depth));
    test::GuardedBuffer b(static_cast<size_t>((depth / 4 - 1) * b_stride + 4 * columns));
    test::GuardedBuffer c(static_cast<size_t>(4 * rows * columns));
    a.fill(rng), b.fill(rng), c.fill(rng);
    std::vector<uint32_t> expected(static_cast<size_t>(rows * columns));
    std::memcpy(expected.data(), c.data(), c.bytes());
    for (int m = 0; m < rows; ++m) {
      for (int n = 0; n < columns; ++n) {
        for (int k = 0; k < depth; ++k) {
          const int product = a.data()[m * a_stride + k] * b.data<int8_t>()[k / 4 * b_stride + 4 * n + k % 4];
          expected[static_cast<size_t>(m * columns + n)] += static_cast<uint32_t>(product);
        }
      }
    }
    tile::Model model;
    const tile::Config config = config_of(rows, columns, depth);
    model.ldtilecfg(&config);
    model.tileloadd(0, c.data(), 4 * columns);
    model.tileloadd(1, a.data(), a_stride);
    model.tileloadd(2, b.data(), b_stride);
    model.tdpbusd(0, 1, 2);
    model.tilestored(0, c.data(), 4 * columns);
    CHECK(std::memcmp(c.data(), expected.data(), c.bytes()) == 0);
  }
}

TEST(tile_model_starts_from_zero) {
  tile::Model model;
  const tile::Config config = config_of(16, 16, 64);
  uint8_t out[16][64];
  std::memset(out, 1, sizeof out);
  model.ldtilecfg(&config);
  model.tilestored(0, out, 64);
  for (const auto& row : out)
    for (const uint8_t byte : row) CHECK_EQ(int{byte}, 0);
}

TEST(tile_model_faults_where_the_hardware_does) {
  const auto fault = [](auto&& change) {
    tile::Config config = config_of(3, 5, 8);
    change(config);
    tile::Model().ldtilecfg(&config);
  };
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.palette = 2; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.start_row = 16; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.reserved[13] = 1; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.rows[0] = 17; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.row_bytes[1] = 65; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.rows[2] = 0; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.row_bytes[3] = 4; }), 0));
  CHECK_THROWS(tile::Fault, (fault([](auto& c) { c.rows[8] = c.row_bytes[8] = 4; }), 0));

  const auto dot = [](auto&& change, int c, int a, int b) {
    tile::Config config = config_of(3, 5, 8);
    change(config);
    tile::Model model;
    model.ldtilecfg(&config);
    model.tdpbusd(c, a, b);
  };
  const auto same = [](auto&) {};
  dot(same, 0, 1, 2);
  CHECK_THROWS(tile::Fault, (dot(same, 0, 1, 1), 0));
  CHECK_THROWS(tile::Fault, (dot(same, 0, 0, 2), 0));
  CHECK_THROWS(tile::Fault, (dot(same, 0, 1, 3), 0));
  CHECK_THROWS(tile::Fault, (dot(same, 0, 1, 8), 0));
  CHECK_THROWS(tile::Fault, (dot([](auto& c) { c.rows[1] = 4; }, 0, 1, 2), 0));
  CHECK_THROWS(tile::Fault, (dot([](auto& c) { c.row_bytes[1] = 12; }, 0, 1, 2), 0));
  CHECK_THROWS(tile::Fault, (dot([](auto& c) { c.row_bytes[2] = 24; }, 0, 1, 2), 0));
  CHECK_THROWS(tile::Fault, (dot([](auto& c) { c.row_bytes[0] = c.row_bytes[2] = 18; }, 0, 1, 2), 0));
}

TEST(tile_model_faults_without_a_configuration) {
  uint8_t bytes[1024] = {};
  tile::Model model;
  CHECK_THROWS(tile::Fault, (model.tileloadd(0, bytes, 64), 0));
  const tile::Config config = config_of(3, 5, 8);
  model.ldtilecfg(&config);
  CHECK(model.configured());
  model.tileloadd(0, bytes, 64);
  model.tilerelease();
  CHECK(!model.configured());
  CHECK_THROWS(tile::Fault, (model.tilestored(0, bytes, 64), 0));
  CHECK_THROWS(tile::Fault, (model.tdpbusd(0, 1, 2), 0));
}
