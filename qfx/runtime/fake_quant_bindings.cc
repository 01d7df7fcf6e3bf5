#include "runtime/fake_quant_bindings.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <tuple>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fake_quant/fake_quant.h"
#include "runtime/threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace qfx {
namespace {

using fake_quant::Element;
using fake_quant::Gate;
using fake_quant::Integers;
using fake_quant::Layout;
using fake_quant::QParamState;
using fake_quant::Statistics;

using Address = uintptr_t;
using LayoutFields = std::tuple<int, int64_t, int64_t, int64_t>;  // element, outer, channels, inner
using Bounds = std::tuple<int32_t, int32_t>;
using Ends = std::tuple<float, float>;
// low, high, average, constant, symmetric, middle, eps, extremes
using StatisticsFields = std::tuple<Address, Address, bool, float, bool, int32_t, float, Address>;

template <class T>
T* pointer(Address address) noexcept {
  return reinterpret_cast<T*>(address);
}

Layout layout_of(const LayoutFields& f) {
  const auto [element, outer, channels, inner] = f;
  if (element < 0 || element > 2 || outer < 1 || channels < 1 || inner < 1)
    throw nb::value_error("a layout is an element type and three positive sizes");
  return {static_cast<Element>(element), outer, channels, inner};
}

// Asking the CPU can take longer than a small tensor does. Callers hold the GIL.
Isa isa_of(const std::string& name) {
  static std::string last;
  static Isa found = selected_isa();
  const char* const wanted = std::getenv("QFX_ISA");
  if (!name.empty()) return parse_isa(name);
  if (last != (wanted == nullptr ? "" : wanted)) {
    found = selected_isa();
    last = wanted == nullptr ? "" : wanted;
  }
  return found;
}

// Fresh memory of this size is mapped page by page as it is written, which takes longer than the writing: ask for
// large pages. Only a hint.
void expect_writes(void* begin, int64_t bytes) noexcept {
#if defined(__linux__)
  constexpr int64_t kLargePage = int64_t{2} << 20;
  if (bytes < 4 * kLargePage) return;
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = (address + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t last = (address + static_cast<uintptr_t>(bytes)) / kLargePage * kLargePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)begin, (void)bytes;
#endif
}

int team_of(const Layout& layout, int threads) {
  refresh_thread_pool();
  return layout.useful_threads(num_threads(threads));
}

int64_t bytes_of(const Layout& layout) noexcept {
  return layout.count() * (layout.element == Element::f32 ? 4 : 2);
}

class TeamMeeting final : public Meeting {
 public:
  void wait(int threads) noexcept override { barrier_.wait(threads); }

 private:
  Barrier barrier_;
};

// body(tid, threads) on a team, without the GIL; returns how many threads ran.
template <class Body>
int run_team(int threads, const Body& body) {
  struct Context {
    const Body& body;
    int threads;
  } context{body, threads};
  const nb::gil_scoped_release release;
  parallel_region(
      threads,
      [](void* data, int tid, int count) noexcept {
        auto& c = *static_cast<Context*>(data);
        if (tid == 0) c.threads = count;
        c.body(tid, count);
      },
      &context);
  return context.threads;
}

int forward(Address x, Address y, Address passed, Address scale, Address zero_point, const LayoutFields& fields,
            const Bounds& bounds, const Ends& gate, const std::optional<StatisticsFields>& given, int threads,
            const std::string& isa) {
  const Layout layout = layout_of(fields);
  std::optional<Statistics> statistics;
  const float* extremes = nullptr;
  if (given) {
    const auto& [low, high, average, constant, symmetric, middle, eps, known] = *given;
    statistics = Statistics{pointer<float>(low), pointer<float>(high), average, constant, symmetric, middle, eps};
    extremes = pointer<const float>(known);
  }
  const int team = team_of(layout, threads);
  fake_quant::Forward run(layout, Integers{std::get<0>(bounds), std::get<1>(bounds)},
                          Gate{std::get<0>(gate), std::get<1>(gate)},
                          QParamState{pointer<float>(scale), pointer<int32_t>(zero_point)},
                          statistics ? &*statistics : nullptr, extremes, isa_of(isa), team);
  if (y != 0 && y != x) expect_writes(pointer<void>(y), bytes_of(layout));
  TeamMeeting meeting;
  run_team(team, [&](int tid, int count) noexcept {
    run.run(pointer<const void>(x), pointer<void>(y), pointer<uint8_t>(passed), tid, count, meeting);
  });
  return static_cast<int>(run.outcome());
}

bool extremes(Address x, const LayoutFields& fields, Address result, int threads, const std::string& isa) {
  const Layout layout = layout_of(fields);
  const int team = team_of(layout, threads);
  fake_quant::Scan scan(layout, isa_of(isa), team);
  const int ran = run_team(team, [&](int tid, int count) noexcept { scan.run(pointer<const void>(x), tid, count); });
  return scan.result(ran, pointer<float>(result), pointer<float>(result) + layout.channels);
}

void backward(Address g, Address passed, Address gx, const LayoutFields& fields, int threads, const std::string& isa) {
  const Layout layout = layout_of(fields);
  if (gx != g) expect_writes(pointer<void>(gx), bytes_of(layout));
  const fake_quant::Backward run(layout, isa_of(isa));
  run_team(team_of(layout, threads), [&](int tid, int count) noexcept {
    run.run(pointer<const void>(g), pointer<const uint8_t>(passed), pointer<void>(gx), tid, count);
  });
}

void learn_backward(Address x, Address g, Address gx, Address scale, Address zero_point, Address sums,
                    const LayoutFields& fields, const Bounds& bounds, const Ends& gate, int threads,
                    const std::string& isa) {
  const Layout layout = layout_of(fields);
  expect_writes(pointer<void>(gx), bytes_of(layout));
  fake_quant::LearnBackward run(layout, Integers{std::get<0>(bounds), std::get<1>(bounds)},
                                Gate{std::get<0>(gate), std::get<1>(gate)},
                                QParamState{pointer<float>(scale), pointer<int32_t>(zero_point)}, isa_of(isa));
  run_team(team_of(layout, threads), [&](int tid, int count) noexcept {
    run.run(pointer<const void>(x), pointer<const void>(g), pointer<void>(gx), tid, count);
  });
  run.result(pointer<double>(sums));
}

}  // namespace

void bind_fake_quant(nb::module_& m) {
  m.def("fake_quant_forward", &forward, "x"_a, "y"_a, "passed"_a, "scale"_a, "zero_point"_a, "layout"_a, "bounds"_a,
        "gate"_a, "statistics"_a.none(), "threads"_a, "isa"_a = "");
  m.def("fake_quant_extremes", &extremes, "x"_a, "layout"_a, "result"_a, "threads"_a, "isa"_a = "");
  m.def("fake_quant_backward", &backward, "g"_a, "passed"_a, "gx"_a, "layout"_a, "threads"_a, "isa"_a = "");
  m.def("fake_quant_learn_backward", &learn_backward, "x"_a, "g"_a, "gx"_a, "scale"_a, "zero_point"_a, "sums"_a,
        "layout"_a, "bounds"_a, "gate"_a, "threads"_a, "isa"_a = "");
  m.def("fake_quant_mask_bytes", [](const LayoutFields& fields) { return layout_of(fields).mask_bytes(); }, "layout"_a);
}

}  // namespace qfx
