#include "gemm/epilogue.h"

namespace qfx::gemm {

bool has_byte_permutes() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vbmi") != 0;
#else
  return false;
#endif
}

Epilogue epilogue_of(const ResultQuant& result, double bound) noexcept {
  Epilogue e;
  static_cast<ResultQuant&>(e) = result;
  e.bounded = is_bounded(bound);
  e.byte_permutes = has_byte_permutes();
  return e;
}

LookupTable::LookupTable(std::span<const uint8_t> all) : entries(all.begin(), all.end()) {
  for (size_t i = 0; i < entries.size(); ++i) pairs.push_back(entries[i / 128 * 128 + i % 128 / 2 + i % 2 * 64]);
}

void LookupTable::attach(Epilogue& epilogue) const noexcept {
  epilogue.lut = entries.empty() ? nullptr : entries.data();
  epilogue.lut_pairs = entries.empty() ? nullptr : pairs.data();
}

}  // namespace qfx::gemm
