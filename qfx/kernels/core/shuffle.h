#pragma once

namespace qfx {

// The lanes of v in another order: lane i is what was lane from[i].
template <class V, class Ints>
[[gnu::always_inline]] inline V shuffled(V v, Ints from) noexcept {
#ifdef __clang__
  V y{};
  for (unsigned i = 0; i < sizeof(V) / sizeof(v[0]); ++i) y[i] = v[from[i]];
  return y;
#else
  return __builtin_shuffle(v, from);
#endif
}

// Of a and b behind it.
template <class V, class Ints>
[[gnu::always_inline]] inline V shuffled(V a, V b, Ints from) noexcept {
#ifdef __clang__
  constexpr int kLanes = sizeof(V) / sizeof(a[0]);
  V y{};
  for (int i = 0; i < kLanes; ++i) y[i] = from[i] < kLanes ? a[from[i]] : b[from[i] - kLanes];
  return y;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

}  // namespace qfx
