#include <algorithm>

#include "index/index.h"
#include "index/kernels.h"
#include "kernel_check.h"

using namespace qfx;
using namespace qfx::test;

namespace {

constexpr int64_t kRows = 11, kBags = 3, kEach = 37;

// A table behind whose elements is a guard page.
struct Table {
  RowTable rows;
  std::unique_ptr<GuardedBuffer> elements;
  std::vector<float> scale;
  std::vector<int32_t> zero;

  Table(Rng& rng, const std::string& form, int64_t features, int64_t groups) {
    rows.rows = kRows;
    rows.features = features;
    rows.bits = form == "s4" ? 4 : 8;
    const int64_t bits = form == "f32" ? 32 : form.size() > 2 || form == "f16" ? 16 : rows.bits;
    elements = std::make_unique<GuardedBuffer>(static_cast<size_t>((kRows * features * bits + 7) / 8));
    elements->fill(rng);
    if (form == "f32") {
      for (int64_t i = 0; i < kRows * features; ++i) elements->data<float>()[i] = static_cast<float>(rng.real(-4, 4));
      rows.floats = elements->data<float>();
    } else if (bits == 16) {  // no NaN and no infinity, whose bits are all ones
      for (int64_t i = 0; i < kRows * features; ++i) elements->data<uint16_t>()[i] &= 0xbfff;
      rows.halves = elements->data<uint16_t>();
      rows.brain = form == "bf16";
    } else {
      rows.codes = elements->data<std::byte>();
      rows.group = features / groups;
      rows.row_scales = groups;
      scale = random_floats(rng, kRows * groups, 0.01, 2);
      for (int64_t i = 0; i < kRows * groups; ++i) zero.push_back(static_cast<int32_t>(rng.integer(-8, 7)));
      rows.scale = scale;
      rows.zero_point = zero;
    }
  }
};

std::vector<int64_t> some_indices(Rng& rng) {
  std::vector<int64_t> made(kBags * kEach);
  for (int64_t& index : made) index = rng.integer(0, kRows - 1);
  return made;
}

std::vector<float> expected(const RowTable& table, const Bags& bags, const std::vector<int64_t>& indices,
                            const std::vector<float>& factors) {
  std::vector<float> y(static_cast<size_t>(kBags * table.features), 0.0f);
  for (int64_t bag = 0; bag < kBags; ++bag) {
    float* to = y.data() + bag * table.features;
    int64_t counted = 0;
    for (int64_t i = bag * kEach; i < (bag + 1) * kEach; ++i) {
      const auto place = static_cast<size_t>(i);
      if (indices[place] == bags.padding) continue;
      table.each(indices[place], [&](int64_t f, float value) {
        if (bags.mode == BagMode::max) {
          to[f] = counted == 0 || value > to[f] ? value : to[f];
        } else {
          const float row = bags.factors ? value * factors[place] : value;
          to[f] = to[f] + row;
        }
      });
      ++counted;
    }
    if (bags.mode == BagMode::mean && counted > 0)
      for (int64_t f = 0; f < table.features; ++f) to[f] /= static_cast<float>(counted);
  }
  return y;
}

void check_bags(Rng& rng, const Table& table, BagMode mode, bool weighted, const std::string& what) {
  const Bags bags{.mode = mode, .count = kBags, .indices = kBags * kEach, .padding = 4, .factors = weighted};
  const auto indices = some_indices(rng);
  const auto factors = random_floats(rng, weighted ? bags.indices : 0, -2, 2);
  std::vector<Bytes> inputs{bytes_of(indices)};
  if (weighted) inputs.push_back(bytes_of(factors));
  check_on_every_isa([&](Isa isa) { return plan_embedding_bag<int64_t>(table.rows, bags, isa); }, inputs,
                     expected(table.rows, bags, indices, factors), what);
}

}  // namespace

TEST(bags_of_every_form_on_every_level) {
  Rng rng(71);
  for (const std::string form : {"f32", "f16", "bf16", "s8", "s4"}) {
    const bool codes = form[0] == 's';
    for (const int64_t features : {1, 2, 4, 6, 7, 8, 15, 16, 18, 31, 32, 34, 64, 70, 128, 150, 258})
      for (const int64_t groups : {1, 2}) {
        if (groups == 2 && (!codes || features % 2 != 0)) continue;
        const Table table(rng, form, features, groups);
        const std::string what = form + ", " + std::to_string(features) + " features, " + std::to_string(groups);
        for (const BagMode mode : {BagMode::sum, BagMode::mean, BagMode::max})
          check_bags(rng, table, mode, false, what + " groups, mode " + std::to_string(static_cast<int>(mode)));
        check_bags(rng, table, BagMode::sum, true, what + " groups, weighted");
      }
  }
}

// Rows are asked for ahead: those of indices outside of the table are neither asked for nor taken.
TEST(bags_of_indices_outside_of_the_table) {
  const int64_t rows = 12, features = 64;
  const std::vector<float> table(static_cast<size_t>(rows * features), 1.0f);
  std::vector<int64_t> indices(80, rows - 1);
  const Bags bags{.count = 1, .indices = 80};
  RowTable held;
  held.rows = rows;
  held.features = features;
  held.floats = table.data();
  check_on_every_isa([&](Isa isa) { return plan_embedding_bag<int64_t>(held, bags, isa); }, {bytes_of(indices)},
                     std::vector<float>(static_cast<size_t>(features), 80.0f), "rows of ones");
  for (const int64_t wrong : {int64_t{-1}, rows, INT64_MIN, INT64_MAX}) {
    indices[70] = wrong;
    for (const Isa isa : isas()) {
      std::vector<float> y(static_cast<size_t>(features));
      const auto work = plan_embedding_bag<int64_t>(held, bags, isa);
      std::vector<std::byte> scratch(work->scratch_bytes());
      const void* in[] = {indices.data()};
      void* out[] = {y.data()};
      work->run(in, out, scratch.data(), 0, 1);
      CHECK(work->refused(scratch.data()));
      CHECK(std::ranges::all_of(y, [](float sum) { return sum == 79.0f; }));
    }
  }
}
