#include "runtime/phase_cache.h"

#include <utility>

namespace qfx {
namespace {

// All that phases depend on but sizes, threads and costs.
std::vector<int> structure_of(const Draft& draft) {
  std::vector<int> numbers;
  numbers.reserve(2 * draft.storages.size() + 6 * draft.works.size());
  for (const Storage& s : draft.storages) {
    numbers.push_back(static_cast<int>(s.base));
    numbers.push_back(s.index);
  }
  for (size_t w = 0; w < draft.works.size(); ++w) {
    const Draft::Operands& operands = draft.operands[w];
    numbers.push_back(draft.works[w].work->meets() ? 1 : 0);
    for (const auto& places : {&operands.in, &operands.out}) {
      numbers.push_back(static_cast<int>(places->size()));
      for (const Place& p : *places) numbers.push_back(p.storage);
    }
  }
  return numbers;
}

std::vector<int64_t> bytes_of(const Draft& draft, double room) {
  std::vector<int64_t> bytes;
  bytes.reserve(draft.storages.size());
  for (const Storage& s : draft.storages) {
    const bool is_ours = s.base == Location::Base::arena;
    bytes.push_back(is_ours ? static_cast<int64_t>(room * static_cast<double>(s.bytes)) : 0);
  }
  return bytes;
}

bool fits(const std::vector<int64_t>& wanted, const std::vector<int64_t>& there) {
  int64_t total = 0, room = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] > there[i]) return false;
    total += wanted[i];
    room += there[i];
  }
  return room <= PhaseCache::kTooLarge * total;
}

}  // namespace

std::shared_ptr<const Phases> PhaseCache::find(const Draft& draft, const PlanOptions& options) {
  std::vector<int> structure = structure_of(draft);
  const std::vector<int64_t> wanted = bytes_of(draft, 1.0);
  const std::scoped_lock guard(mutex_);
  bool is_new = true;
  for (auto it = known_.begin(); it != known_.end(); ++it) {
    if (it->structure != structure) continue;
    is_new = false;
    if (!fits(wanted, it->bytes)) continue;
    known_.splice(known_.begin(), known_, it);
    return it->phases;
  }
  double room = is_new ? 1.0 : kRoom;
  Phases phases = find_phases(draft, options, {.room = room});
  if (room > 1.0 && phases.layout.bytes > kLargestRoom) phases = find_phases(draft, options, {.room = room = 1.0});
  known_.push_front({std::move(structure), bytes_of(draft, room), std::make_shared<const Phases>(std::move(phases))});
  if (known_.size() > kMost) known_.pop_back();
  return known_.front().phases;
}

}  // namespace qfx
