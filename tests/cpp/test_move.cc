#include <algorithm>
#include <stdexcept>

#include "kernel_check.h"
#include "move/move.h"

using namespace qfx;
using namespace qfx::test;

namespace {

// Copies one element of `size` bytes.
void put(Bytes& y, int64_t to, const Bytes& x, int64_t from, int size) {
  std::copy_n(x.begin() + from * size, size, y.begin() + to * size);
}

Bytes reference_copy(const Strided& g, const Bytes& x) {
  Bytes y(static_cast<size_t>(element_count(g.shape) * g.element_size));
  for (int64_t i = 0; i < element_count(g.shape); ++i) {
    const Dims at = unravel(i, g.shape);
    int64_t from = g.offset;
    for (size_t d = 0; d < at.size(); ++d) from += at[d] * g.strides[d];
    put(y, i, x, from, g.element_size);
  }
  return y;
}

void check_copy(Rng& rng, const Strided& g, int64_t x_elements) {
  const Bytes x = random_bytes(rng, x_elements * g.element_size);
  check_on_every_isa(
      [&](Isa isa) { return plan_copy(g, isa); }, {x}, reference_copy(g, x),
      "copy " + shown_dims(g.shape) + " strides " + shown_dims(g.strides) + " size " + std::to_string(g.element_size));
}

Strided permuted(const Dims& shape, const std::vector<size_t>& perm, int element_size) {
  const Dims strides = dense_strides(shape);
  Strided g;
  g.element_size = element_size;
  for (size_t d : perm) {
    g.shape.push_back(shape[d]);
    g.strides.push_back(strides[d]);
  }
  return g;
}

const std::vector<int> kSizes{1, 2, 4, 8};

}  // namespace

TEST(copy_transposes_of_every_tail) {
  Rng rng(40);
  for (int size : kSizes)
    for (int64_t rows : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130})
      for (int64_t columns : {1, 3, 8, 15, 16, 17, 33, 64, 66})
        check_copy(rng, permuted({2, rows, columns}, {0, 2, 1}, size), 2 * rows * columns);
}

TEST(copy_random_permutations) {
  Rng rng(41);
  for (int i = 0; i < 400; ++i) {
    Dims shape;
    for (int64_t d = rng.integer(0, 6); d > 0; --d) shape.push_back(rng.integer(0, 40) == 0 ? 0 : rng.integer(1, 6));
    std::vector<size_t> perm(shape.size());
    for (size_t d = 0; d < perm.size(); ++d) perm[d] = d;
    for (size_t d = perm.size(); d > 1; --d)
      std::swap(perm[d - 1], perm[static_cast<size_t>(rng.integer(0, static_cast<int64_t>(d) - 1))]);
    check_copy(rng, permuted(shape, perm, rng.pick(kSizes)), element_count(shape));
  }
}

TEST(copy_slices_reverses_and_repeats) {
  Rng rng(42);
  for (int i = 0; i < 400; ++i) {
    Dims x_shape;
    for (int64_t d = rng.integer(1, 4); d > 0; --d) x_shape.push_back(rng.integer(1, 40 / rng.integer(1, 8)));
    const Dims dense = dense_strides(x_shape);
    Strided g;
    g.element_size = rng.pick(kSizes);
    for (size_t d = 0; d < x_shape.size(); ++d) {
      const int64_t n = x_shape[d], start = rng.integer(0, n - 1);
      const int64_t step = rng.pick<int64_t>({1, 1, 1, 2, 3, -1, 0});
      const int64_t most = step > 0 ? (n - 1 - start) / step + 1 : (step < 0 ? start + 1 : 5);
      g.offset += start * dense[d];
      g.shape.push_back(rng.integer(0, 20) == 0 ? 0 : rng.integer(1, most));
      g.strides.push_back(step * dense[d]);
    }
    check_copy(rng, g, element_count(x_shape));
  }
}

TEST(copy_rows_of_every_length) {
  Rng rng(43);
  for (int64_t n = 0; n < 300; ++n) {
    Strided g;
    g.shape = {3, n};
    g.strides = {n + 5, 1};
    g.offset = 2;
    check_copy(rng, g, 2 + 3 * (n + 5));
  }
}

TEST(copy_rejects_bad_geometry) {
  CHECK_THROWS(std::invalid_argument, plan_copy({{2, 3}, {1}, 0, 1}, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_copy({{2}, {1}, 0, 3}, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_copy({{-2}, {1}, 0, 1}, Isa::scalar));
}

TEST(concat_random) {
  Rng rng(44);
  for (int i = 0; i < 300; ++i) {
    const int64_t outer = rng.integer(0, 9);
    const int size = rng.pick(kSizes);
    std::vector<int64_t> inner;
    std::vector<Bytes> x;
    for (int64_t k = rng.integer(1, 6); k > 0; --k) {
      inner.push_back(rng.pick<int64_t>({0, 1, 3, 7, 8, 15, 16, 17, 32, 64, rng.integer(1, 400)}));
      x.push_back(random_bytes(rng, outer * inner.back() * size));
    }
    Bytes y;
    for (int64_t o = 0; o < outer; ++o)
      for (size_t k = 0; k < inner.size(); ++k) {
        const int64_t n = inner[k] * size;
        y.insert(y.end(), x[k].begin() + o * n, x[k].begin() + (o + 1) * n);
      }
    check_on_every_isa([&](Isa isa) { return plan_concat(outer, inner, size, isa); }, x, y,
                       "concat " + std::to_string(outer) + " x " + shown_dims(inner));
  }
  CHECK_THROWS(std::invalid_argument, plan_concat(1, {2, -1}, 1, Isa::scalar));
}

namespace {

int64_t pad_source(int64_t i, int64_t n, PadMode mode) {
  if (i >= 0 && i < n) return i;
  if (mode == PadMode::constant) return -1;
  if (mode == PadMode::replicate) return std::clamp<int64_t>(i, 0, n - 1);
  if (mode == PadMode::circular) return (i + n) % n;
  return i < 0 ? -i : 2 * n - 2 - i;
}

void check_pad(Rng& rng, const Dims& shape, const Dims& lo, const Dims& hi, PadMode mode, int size) {
  Dims y_shape(shape.size());
  for (size_t d = 0; d < shape.size(); ++d) y_shape[d] = lo[d] + shape[d] + hi[d];
  const Bytes x = random_bytes(rng, element_count(shape) * size), fill = random_bytes(rng, size);
  Bytes y(static_cast<size_t>(element_count(y_shape) * size));
  for (int64_t i = 0; i < element_count(y_shape); ++i) {
    const Dims at = unravel(i, y_shape);
    int64_t from = 0;
    for (size_t d = 0; d < at.size(); ++d) {
      const int64_t source = pad_source(at[d] - lo[d], shape[d], mode);
      from = from < 0 || source < 0 ? -1 : from * shape[d] + source;
    }
    put(y, i, from < 0 ? fill : x, std::max<int64_t>(from, 0), size);
  }
  check_on_every_isa([&](Isa isa) { return plan_pad(shape, lo, hi, mode, std::as_bytes(std::span(fill)), size, isa); },
                     {x}, y, "pad " + shown_dims(shape) + " lo " + shown_dims(lo) + " hi " + shown_dims(hi));
}

}  // namespace

TEST(pad_random) {
  Rng rng(45);
  for (int i = 0; i < 500; ++i) {
    const PadMode mode = static_cast<PadMode>(rng.integer(0, 3));
    Dims shape, lo, hi;
    for (int64_t d = rng.integer(0, 4); d > 0; --d) {
      const int64_t n = rng.integer(1, 9);
      const int64_t limit = mode == PadMode::reflect ? n - 1 : (mode == PadMode::circular ? n : 5);
      const bool padded = rng.integer(0, 2) != 0;
      shape.push_back(n);
      lo.push_back(padded ? rng.integer(0, limit) : 0);
      hi.push_back(padded ? rng.integer(0, limit) : 0);
      if (mode == PadMode::constant && rng.integer(0, 3) == 0) lo.back() = -rng.integer(0, n);
    }
    check_pad(rng, shape, lo, hi, mode, rng.pick(kSizes));
  }
}

TEST(pad_images_and_crops) {
  Rng rng(46);
  check_pad(rng, {2, 7, 9, 24}, {0, 1, 1, 0}, {0, 2, 1, 0}, PadMode::constant, 1);
  check_pad(rng, {2, 7, 9, 24}, {0, -1, -2, 0}, {0, -3, 1, 0}, PadMode::constant, 1);
  check_pad(rng, {2, 7, 9, 24}, {0, 0, 0, 3}, {0, 0, 0, 5}, PadMode::constant, 4);
  check_pad(rng, {0, 7}, {0, 1}, {0, 1}, PadMode::constant, 1);
  check_pad(rng, {0, 3}, {2, 1}, {1, 1}, PadMode::constant, 1);
}

TEST(pad_rejects_bad_geometry) {
  const std::vector<std::byte> fill(1);
  const auto plan = [&](const Dims& shape, const Dims& lo, PadMode mode) {
    return plan_pad(shape, lo, Dims(shape.size(), 0), mode, fill, 1, Isa::scalar);
  };
  CHECK_THROWS(std::invalid_argument, plan({3}, {3}, PadMode::reflect));
  CHECK_THROWS(std::invalid_argument, plan({3}, {4}, PadMode::circular));
  CHECK_THROWS(std::invalid_argument, plan({3}, {-1}, PadMode::replicate));
  CHECK_THROWS(std::invalid_argument, plan({3}, {-4}, PadMode::constant));
  CHECK_THROWS(std::invalid_argument, plan_pad({3}, {1}, {1}, PadMode::constant, fill, 4, Isa::scalar));
}
