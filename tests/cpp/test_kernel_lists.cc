#include <cstring>

#include "attention/kernels.h"
#include "elementwise/kernels.h"
#include "fake_quant/kernels.h"
#include "float_ops/kernels.h"
#include "harness.h"
#include "index/kernels.h"
#include "move/kernels.h"
#include "pool/kernels.h"
#include "recurrent/kernels.h"
#include "rotary/kernels.h"
#include "rotation/kernels.h"

using namespace qfx;

namespace {

struct Line {
  std::string kind, name;
  Isa isa;
};
using List = std::vector<Line>;

#define QFX_KERNEL(kind, name, isa) {#kind, #name, Isa::isa},
const List kAttention{
#include "attention/kernels.inc"
};
const List kElementwise{
#include "elementwise/kernels.inc"
};
const List kFakeQuant{
#include "fake_quant/kernels.inc"
};
const List kPool{
#include "pool/kernels.inc"
};
const List kMove{
#include "move/kernels.inc"
};
const List kFloatOps{
#include "float_ops/kernels.inc"
};
const List kIndex{
#include "index/kernels.inc"
};
const List kRecurrent{
#include "recurrent/kernels.inc"
};
const List kRotary{
#include "rotary/kernels.inc"
};
const List kRotation{
#include "rotation/kernels.inc"
};
#undef QFX_KERNEL

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

TEST(kernel_lists_go_from_the_highest_level_to_scalar) {
  for (const List* list : {&kAttention, &kElementwise, &kFakeQuant, &kPool, &kMove, &kFloatOps, &kIndex, &kRecurrent,
                           &kRotary, &kRotation}) {
    CHECK(!list->empty());
    for (size_t i = 0; i < list->size(); ++i) {
      const Line& line = (*list)[i];
      const bool last = i + 1 == list->size() || (*list)[i + 1].kind != line.kind;
      CHECK(ends_with(line.name, std::string("__") + isa_name(line.isa)));
      CHECK_EQ(last, line.isa == Isa::scalar);
      if (!last) CHECK((*list)[i + 1].isa < line.isa);
    }
  }
}

TEST(kernel_selection_takes_the_first_line_that_the_level_can_run) {
  CHECK_EQ(std::string(elementwise::select<elementwise::Binary>(Isa::scalar).name), "binary_u8__scalar");
  CHECK_EQ(elementwise::select<elementwise::LookupFloat>(Isa::avx512vnni).isa, Isa::scalar);
#if defined(__x86_64__)
  CHECK_EQ(elementwise::select<elementwise::Binary>(Isa::avx2).isa, Isa::avx2);
  CHECK_EQ(elementwise::select<elementwise::Binary>(Isa::avx512vnni).isa, Isa::avx512vnni);
  CHECK_EQ(move::select<move::TransposeU8>(Isa::avx512vnni).isa, Isa::avx2);
#endif
}
