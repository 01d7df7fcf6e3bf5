#include "runtime/arena.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace qfx {
namespace {

constexpr int64_t kAlignment = 64;

int64_t rounded(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool overlap(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

int64_t largest_live(std::span<const Lifetime> buffers) {
  std::vector<std::pair<int, int64_t>> changes;
  for (const Lifetime& b : buffers) {
    changes.emplace_back(b.first, rounded(b.bytes));
    changes.emplace_back(b.last + 1, -rounded(b.bytes));
  }
  std::sort(changes.begin(), changes.end());
  int64_t live = 0, most = 0;
  for (const auto& [step, bytes] : changes) {
    live += bytes;
    most = std::max(most, live);
  }
  return most;
}

// The tightest gap between the placed buffers that share a step with `buffer`, or the end of them.
int64_t best_gap(const Lifetime& buffer, std::span<const Lifetime> buffers, const std::vector<int>& by_offset,
                 const std::vector<int64_t>& offsets) {
  int64_t end = 0, best = -1, best_size = std::numeric_limits<int64_t>::max();
  const int64_t wanted = rounded(buffer.bytes);
  for (const int i : by_offset) {
    if (!overlap(buffer, buffers[i])) continue;
    const int64_t gap = offsets[i] - end;
    if (gap >= wanted && gap < best_size) {
      best = end;
      best_size = gap;
    }
    end = std::max(end, offsets[i] + rounded(buffers[i].bytes));
  }
  return best >= 0 ? best : end;
}

ArenaLayout place_in_order(std::span<const Lifetime> buffers, const std::vector<int>& order) {
  ArenaLayout layout;
  layout.offsets.assign(buffers.size(), 0);
  std::vector<int> by_offset;
  for (const int i : order) {
    if (buffers[i].bytes == 0) continue;
    layout.offsets[i] = best_gap(buffers[i], buffers, by_offset, layout.offsets);
    layout.bytes = std::max(layout.bytes, layout.offsets[i] + rounded(buffers[i].bytes));
    const auto less = [&](int a, int b) { return layout.offsets[a] < layout.offsets[b]; };
    by_offset.insert(std::upper_bound(by_offset.begin(), by_offset.end(), i, less), i);
  }
  return layout;
}

// Bytes of the memory that two buffers share in turn which lie in the first half of one and the second half of the
// other.
int64_t crossed(int64_t a, int64_t a_bytes, int64_t b, int64_t b_bytes) {
  const int64_t begin = std::max(a, b), end = std::min(a + a_bytes, b + b_bytes);
  if (begin >= end) return 0;
  return std::abs(std::clamp(a + a_bytes / 2, begin, end) - std::clamp(b + b_bytes / 2, begin, end));
}

// Two threads take half a buffer each, and memory that the other one wrote before is slow to reach, most of all from
// another cache domain. Buffers move within the room that the layout leaves them, to where their halves fall on halves.
class Slider {
 public:
  Slider(std::span<const Lifetime> buffers, ArenaLayout& layout) : buffers_(buffers), layout_(layout) {
    order_.resize(buffers.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return buffers_[a].bytes > buffers_[b].bytes; });
  }

  void run() {
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (const int i : order_)
        if (buffers_[i].bytes > 0) move(i);
    }
  }

 private:
  static constexpr int kSweeps = 3;
  static constexpr size_t kMiddles = 24;  // of the largest buffers, that a smaller one may take for its own

  int64_t cost(int i, int64_t offset) const {
    int64_t sum = 0;
    for (size_t j = 0; j < buffers_.size(); ++j) {
      if (overlap(buffers_[i], buffers_[j])) continue;
      sum += crossed(offset, buffers_[i].bytes, layout_.offsets[j], buffers_[j].bytes);
    }
    return sum;
  }

  std::vector<int64_t> middles(int i) const {
    std::vector<int64_t> found;
    for (const int j : order_) {
      if (found.size() == kMiddles) break;
      const int64_t middle = layout_.offsets[j] + buffers_[j].bytes / 2;
      const bool known = std::find(found.begin(), found.end(), middle) != found.end();
      if (!known && !overlap(buffers_[i], buffers_[j])) found.push_back(middle);
    }
    return found;
  }

  void move(int i) {
    const int64_t wanted = rounded(buffers_[i].bytes);
    const std::vector<int64_t> targets = middles(i);
    int64_t best = layout_.offsets[i], least = cost(i, best);
    const auto offer = [&](int64_t offset) {
      const int64_t now = cost(i, offset);
      if (now < least) best = offset, least = now;
    };
    const auto room = [&](int64_t begin, int64_t end) {
      if (end - begin < wanted) return;
      for (const int64_t middle : targets) {
        const int64_t offset = (middle - buffers_[i].bytes / 2) / kAlignment * kAlignment;
        offer(std::clamp(offset, begin, end - wanted));
      }
    };
    std::vector<int> live;
    for (size_t j = 0; j < buffers_.size(); ++j) {
      if (static_cast<int>(j) != i && buffers_[j].bytes > 0 && overlap(buffers_[i], buffers_[j])) {
        live.push_back(static_cast<int>(j));
      }
    }
    std::sort(live.begin(), live.end(), [&](int a, int b) { return layout_.offsets[a] < layout_.offsets[b]; });
    int64_t end = 0;
    for (const int j : live) {
      room(end, layout_.offsets[j]);
      end = std::max(end, layout_.offsets[j] + rounded(buffers_[j].bytes));
    }
    room(end, layout_.bytes);
    layout_.offsets[i] = best;
  }

  std::span<const Lifetime> buffers_;
  ArenaLayout& layout_;
  std::vector<int> order_;  // largest first
};

}  // namespace

// Greedy by size, by lifetime, and by start; the smallest of the three, and then halves on halves.
ArenaLayout place_buffers(std::span<const Lifetime> buffers) {
  const auto size = [&](int i) { return buffers[i].bytes; };
  const auto span = [&](int i) { return buffers[i].last - buffers[i].first; };
  std::vector<int> by_start(buffers.size());
  std::iota(by_start.begin(), by_start.end(), 0);
  std::stable_sort(by_start.begin(), by_start.end(), [&](int a, int b) { return buffers[a].first < buffers[b].first; });
  std::vector<int> by_size = by_start, by_area = by_start;
  std::stable_sort(by_size.begin(), by_size.end(), [&](int a, int b) { return size(a) > size(b); });
  std::stable_sort(by_area.begin(), by_area.end(), [&](int a, int b) {
    return static_cast<double>(size(a)) * (span(a) + 1) > static_cast<double>(size(b)) * (span(b) + 1);
  });
  const int64_t bound = largest_live(buffers);
  ArenaLayout best;
  best.bytes = std::numeric_limits<int64_t>::max();
  for (const auto* order : {&by_size, &by_area, &by_start}) {
    ArenaLayout layout = place_in_order(buffers, *order);
    if (layout.bytes < best.bytes) best = std::move(layout);
    if (best.bytes == bound) break;
  }
  best.largest_live = bound;
  Slider(buffers, best).run();
  return best;
}

}  // namespace qfx
