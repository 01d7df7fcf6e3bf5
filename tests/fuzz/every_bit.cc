// every_bit FIRST STRIDE FILE...: every STRIDEth truncation of files and bit of theirs flipped, with checksums made
// right.
#include <cstdio>
#include <cstdlib>

#include "hostile_file.h"

using namespace qfx::test;

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const auto first = std::strtoul(arguments[1], nullptr, 10), stride = std::strtoul(arguments[2], nullptr, 10);
  Tally all;
  for (int i = 3; i < count; ++i) {
    const Content file = content_of(arguments[i]);
    Tally tally;
    take_damaged(file, first % stride, stride, tally);
    if (tally.differing + tally.unsound > 0)
      std::printf("%s: %ld wrong\n", arguments[i], tally.differing + tally.unsound);
    all.tried += tally.tried, all.refused += tally.refused, all.ran += tally.ran;
    all.differing += tally.differing, all.unsound += tally.unsound;
  }
  std::printf("%ld damaged files: %ld refused, %ld ran; %ld wrong results, %ld taken that are none\n", all.tried,
              all.refused, all.ran, all.differing, all.unsound);
  return all.differing + all.unsound > 0 ? 1 : 0;
}
