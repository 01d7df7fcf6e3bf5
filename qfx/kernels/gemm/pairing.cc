#include "gemm/pairing.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <tuple>
#include <utility>

namespace qfx::gemm {
namespace {

constexpr size_t kLanes = 2 * kPairedColumns;  // sums of two neighbours
constexpr size_t kTries = 8;                   // partners that a step looks at
constexpr int kPlainLimit = 128;               // weights of one sign beside each other: 255 * 128 < 2^15

struct Step {
  int64_t index = 0;
  std::array<int16_t, kLanes> weight{};  // of each two neighbours: the sum of their magnitudes
  std::array<int16_t, kLanes> steep{};   // the greater of the sums of those of either sign
  int heaviest = 0, steepest = 0;        // of all lanes
};

Step make_step(const int8_t* weight, int64_t index, int64_t columns) {
  Step s;
  s.index = index;
  weight += index * columns * 4;
  for (size_t lane = 0; lane < static_cast<size_t>(2 * columns); ++lane) {
    const int first = weight[2 * lane], second = weight[2 * lane + 1];
    const int magnitudes = std::abs(first) + std::abs(second);
    s.weight[lane] = static_cast<int16_t>(magnitudes);
    const int steep = (magnitudes + std::abs(first + second)) / 2;
    s.steep[lane] = static_cast<int16_t>(steep);
    s.heaviest = std::max(s.heaviest, magnitudes);
    s.steepest = std::max(s.steepest, steep);
  }
  return s;
}

// Whether sums of products of `turned` and of `other` fit into 16 bits. Turned products take 128 for each unit of
// weight to either side, plain ones 255 to the side of their sign.
bool fits(const Step& turned, const Step& other, bool plain) noexcept {
  int16_t most = 0;
  for (size_t i = 0; i < kLanes; ++i) {
    const int units = turned.weight[i] + (plain ? 2 * other.steep[i] : other.weight[i]);
    most = std::max(most, static_cast<int16_t>(units));
  }
  return most <= (plain ? 255 : 256);
}

// Steps that have no group yet, the heaviest first.
class Pool {
 public:
  explicit Pool(std::vector<const Step*> steps, int Step::* heaviness) : steps_(std::move(steps)) {
    std::ranges::sort(steps_, [&](const Step* a, const Step* b) {
      return std::tuple(a->*heaviness, a->index) > std::tuple(b->*heaviness, b->index);
    });
  }

  bool empty() const noexcept { return front_ == steps_.size(); }
  const Step* take_heaviest() noexcept { return steps_[front_++]; }

  // One of the lightest that goes with `turned`; null: none of those that it looks at.
  const Step* take_partner(const Step& turned, bool plain) {
    const size_t end = steps_.size(), first = std::max(front_, end - std::min(end, kTries));
    for (size_t at = end; at-- > first;) {
      const Step* step = steps_[at];
      if (!fits(turned, *step, plain)) continue;
      steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(at));
      return step;
    }
    return nullptr;
  }

 private:
  std::vector<const Step*> steps_;
  size_t front_ = 0;
};

struct Group {
  Pairing kind;
  const Step* first;
  const Step* second;  // or null
};

// The cheapest groups are those with a plain step, which the steps that must be turned choose first.
std::vector<Group> group_steps(const std::vector<Step>& steps) {
  std::vector<const Step*> plain_steps, other_steps, left;
  for (const Step& s : steps) (s.steepest <= kPlainLimit ? plain_steps : other_steps).push_back(&s);
  Pool plain(plain_steps, &Step::steepest), others(other_steps, &Step::heaviest);
  std::vector<Group> groups;
  while (!others.empty()) {
    const Step* s = others.take_heaviest();
    const Step* partner = plain.take_partner(*s, true);
    if (partner == nullptr) left.push_back(s);
    if (partner != nullptr) groups.push_back({Pairing::turned_and_plain, s, partner});
  }
  Pool alone(left, &Step::heaviest);
  while (!plain.empty()) {
    const Step* s = plain.take_heaviest();
    if (const Step* partner = plain.take_partner(*s, true)) {
      groups.push_back({Pairing::turned_and_plain, s, partner});
    } else {
      partner = alone.take_partner(*s, false);
      groups.push_back({partner != nullptr ? Pairing::both_turned : Pairing::plain, s, partner});
    }
  }
  while (!alone.empty()) {
    const Step* s = alone.take_heaviest();
    const Step* partner = alone.take_partner(*s, false);
    groups.push_back({partner != nullptr ? Pairing::both_turned : Pairing::turned, s, partner});
  }
  return groups;
}

// Writes groups of one run behind each other.
class Writer {
 public:
  Writer(const int8_t* packed, int64_t columns, std::vector<std::byte>& to, int32_t* bias)
      : packed_(packed), columns_(columns), to_(to), bias_(bias) {}

  void write(const Group& g) {
    const bool turns_first = g.kind != Pairing::plain, turns_second = g.kind == Pairing::both_turned;
    step(*g.first, turns_first);
    if (g.second != nullptr) step(*g.second, turns_second);
    if (turns_first) masks(*g.first);
    if (turns_second) masks(*g.second);
  }

 private:
  const int8_t* weights(const Step& s) const noexcept { return packed_ + s.index * columns_ * 4; }

  template <class Fn>
  void append(const int8_t* w, Fn&& byte_of) {
    const size_t at = to_.size(), size = static_cast<size_t>(columns_ * 4);
    to_.resize(at + size);
    std::byte* __restrict to = to_.data() + at;
    for (size_t i = 0; i < size; ++i) to[i] = static_cast<std::byte>(byte_of(w[i]));
  }

  void step(const Step& s, bool turns) {
    const int8_t* w = weights(s);
    if (!turns) return append(w, [](int8_t v) { return static_cast<uint8_t>(v); });
    append(w, [](int8_t v) { return static_cast<uint8_t>(std::abs(v)); });
    for (int64_t i = 0; i < columns_; ++i, w += 4) {
      int32_t lacking = 0;
      for (int d = 0; d < 4; ++d) lacking += 127 * w[d] + std::max<int32_t>(w[d], 0);
      bias_[i] = static_cast<int32_t>(static_cast<uint32_t>(bias_[i]) + static_cast<uint32_t>(lacking));
    }
  }

  void masks(const Step& s) {
    append(weights(s), [](int8_t v) { return static_cast<uint8_t>(0x80 ^ (v >> 7)); });
  }

  const int8_t* packed_;
  int64_t columns_;
  std::vector<std::byte>& to_;
  int32_t* bias_;
};

}  // namespace

void pair_run(const int8_t* packed, int64_t steps, int64_t columns, std::vector<int32_t>& order,
              std::vector<std::byte>& weights, int32_t* bias) {
  std::vector<Step> all;
  all.reserve(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) all.push_back(make_step(packed, i, columns));
  const std::vector<Group> groups = group_steps(all);
  Writer writer(packed, columns, weights, bias);
  for (int kind = 0; kind < kPairings; ++kind) {
    const size_t count = order.size();
    order.push_back(0);
    for (const Group& g : groups) {
      if (static_cast<int>(g.kind) != kind) continue;
      ++order[count];
      order.push_back(static_cast<int32_t>(4 * g.first->index));
      if (g.second != nullptr) order.push_back(static_cast<int32_t>(4 * g.second->index));
      writer.write(g);
    }
  }
}

}  // namespace qfx::gemm
