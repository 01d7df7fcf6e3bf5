#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/nest.h"
#include "harness.h"

namespace qfx::test {

using Dims = std::vector<int64_t>;
using Bytes = std::vector<uint8_t>;
using Plan = std::function<std::unique_ptr<Work>(Isa)>;

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

inline Bytes random_bytes(Rng& rng, int64_t n) {
  Bytes bytes(static_cast<size_t>(n));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng.next());
  return bytes;
}

inline std::vector<float> random_floats(Rng& rng, int64_t n, double lo, double hi) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(rng.real(lo, hi));
  return x;
}

// The multi-index of a flat index.
inline Dims unravel(int64_t index, const Dims& shape) {
  Dims at(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    at[d] = index % shape[d];
    index /= shape[d];
  }
  return at;
}

template <class T>
void check_result(GuardedBuffer& y, const std::vector<T>& expected, const std::string& where) {
  if (!y.intact()) throw Failure("a write in front of a result: " + where);
  for (size_t i = 0; i < expected.size(); ++i)
    if (std::memcmp(y.data<T>() + i, &expected[i], sizeof(T)) != 0)
      throw Failure(where + ": element " + std::to_string(i) + " of " + std::to_string(expected.size()) + " is " +
                    shown(y.data<T>()[i]) + ", not " + shown(expected[i]));
}

// Runs between guard pages, and compares each result with what is expected bit for bit. room: bytes behind the results
// that the threads share.
template <class T>
void check_work(const Work& work, const std::vector<Bytes>& inputs, const std::vector<std::vector<T>>& expected,
                int threads, const std::string& what, int64_t room = 0) {
  std::vector<std::unique_ptr<GuardedBuffer>> guarded, results;
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const Bytes& input : inputs) {
    guarded.push_back(std::make_unique<GuardedBuffer>(input.size()));
    if (!input.empty()) std::memcpy(guarded.back()->data(), input.data(), input.size());
    in.push_back(guarded.back()->data());
  }
  for (size_t r = 0; r < expected.size() + (room > 0 ? 1 : 0); ++r) {
    const size_t bytes = r < expected.size() ? expected[r].size() * sizeof(T) : static_cast<size_t>(room);
    results.push_back(std::make_unique<GuardedBuffer>(bytes));
    results.back()->fill(0xcd);
    out.push_back(results.back()->data());
  }
  run(work, in, out, threads);
  const std::string where = what + ", " + std::to_string(threads) + " threads, " + work.describe();
  for (size_t r = 0; r < results.size(); ++r)
    check_result(*results[r], r < expected.size() ? expected[r] : std::vector<T>(), where);
}

// Plans on every level, and runs with 1, 2 and 5 threads.
template <class T>
void check_on_every_isa(const Plan& plan, const std::vector<Bytes>& inputs, const std::vector<std::vector<T>>& expected,
                        const std::string& what, int64_t room = 0) {
  for (Isa isa : isas()) {
    const auto work = plan(isa);
    if (work->cost() < 0 || work->describe().empty()) throw Failure("cost or description missing: " + what);
    for (int threads : {1, 2, 5}) check_work(*work, inputs, expected, threads, what + " on " + isa_name(isa), room);
  }
}

template <class T>
void check_on_every_isa(const Plan& plan, const std::vector<Bytes>& inputs, const std::vector<T>& expected,
                        const std::string& what) {
  check_on_every_isa(plan, inputs, std::vector<std::vector<T>>{expected}, what);
}

inline std::string shown_dims(const Dims& dims) {
  std::string text = "[";
  for (int64_t d : dims) text.append(text.size() > 1 ? "," : "").append(std::to_string(d));
  return text.append("]");
}

}  // namespace qfx::test
