#include "runtime/arena.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "runtime/buffer.h"

namespace qfx {
namespace {

constexpr int64_t kAlignment = AlignedBuffer::kAlignment;

// What a buffer takes: kernels may read a little past its end, where nobody may write meanwhile.
int64_t rounded(int64_t bytes) {
  constexpr int64_t slack = AlignedBuffer::kReadSlack;
  return bytes == 0 ? 0 : (bytes + slack + kAlignment - 1) / kAlignment * kAlignment;
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
  std::ranges::sort(changes);
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
    by_offset.insert(std::ranges::upper_bound(by_offset, i, less), i);
  }
  return layout;
}

}  // namespace

// Greedy by size, by lifetime, and by start; the smallest of the three.
ArenaLayout place_buffers(std::span<const Lifetime> buffers) {
  const auto size = [&](int i) { return buffers[i].bytes; };
  const auto span = [&](int i) { return buffers[i].last - buffers[i].first; };
  std::vector<int> by_start(buffers.size());
  std::iota(by_start.begin(), by_start.end(), 0);
  std::ranges::stable_sort(by_start, [&](int a, int b) { return buffers[a].first < buffers[b].first; });
  std::vector<int> by_size = by_start, by_area = by_start;
  std::ranges::stable_sort(by_size, [&](int a, int b) { return size(a) > size(b); });
  std::ranges::stable_sort(by_area, [&](int a, int b) {
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
  return best;
}

}  // namespace qfx
