#include "move/move.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

Planned view(int64_t offset = 0) {
  return {nullptr, offset, nullptr};
}

struct ConcatParams {
  int axis, element;
  bool last;

  explicit ConcatParams(const StepView& s)
      : axis(s.axis("axis")),
        element(element_size(s.output().dtype)),
        last(axis + 1 == static_cast<int>(s.output().rank())) {
    for (size_t i = 0; i < s.input_count(); ++i) {
      s.require(s.input(i).rank() == s.output().rank(), "operands and output differ in rank");
    }
  }
};

class ConcatStep : public StepKernel {
 public:
  using Params = ConcatParams;
  ConcatStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    y[p_.axis] = 0;
    for (const Dims& x : in.inputs) {
      for (size_t d = 0; d < y.size(); ++d) {
        if (static_cast<int>(d) == p_.axis || x[d] == y[d]) continue;
        throw std::invalid_argument("operands " + to_string(in.inputs[0]) + " and " + to_string(x) +
                                    " differ outside axis " + std::to_string(p_.axis));
      }
      y[p_.axis] += x[p_.axis];
    }
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    if (in.inputs.size() == 1) return view();
    Dims inner;
    for (const Dims& x : in.inputs) {
      inner.push_back(element_count({x.data() + p_.axis, x.size() - static_cast<size_t>(p_.axis)}));
    }
    const int64_t outer = element_count({y.data(), static_cast<size_t>(p_.axis)});
    return {plan_concat(outer, inner, p_.element, isa_, in.placed), 0, nullptr};
  }

  bool joins_channels() const noexcept override { return p_.last; }
  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }

 private:
  Params p_;
  Isa isa_;
};

struct ReshapeParams {
  explicit ReshapeParams(const StepView& s) {
    s.require(s.step().exprs.at("shape").size() == s.output().rank(), "the output's rank is not that of 'shape'");
  }
};

class ReshapeStep : public StepKernel {
 public:
  using Params = ReshapeParams;
  ReshapeStep(Params, Isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.exprs.at("shape");
    const int64_t total = element_count(in.inputs[0]);
    const auto free = std::ranges::find(y, -1);
    if (free != y.end()) {
      *free = 1;
      *free = free_dim(in, y);
    }
    if (element_count(y) != total) mismatch(in);
    return y;
  }

  Planned plan(const StepShapes&, const Dims&) const override { return view(); }

 private:
  // Empty dims are left out on both sides, so that an empty batch keeps its other dims.
  static int64_t free_dim(const StepShapes& in, const Dims& y) {
    const bool empty = element_count(in.inputs[0]) == 0 && element_count(y) == 0;
    const int64_t total = empty ? product_without_zeros(in.inputs[0]) : element_count(in.inputs[0]);
    const int64_t rest = empty ? product_without_zeros(y) : element_count(y);
    if (rest == 0 || total % rest != 0) mismatch(in);
    return total / rest;
  }

  static int64_t product_without_zeros(Dims dims) {
    std::erase(dims, 0);
    return element_count(dims);
  }

  [[noreturn]] static void mismatch(const StepShapes& in) {
    throw std::invalid_argument("shape " + to_string(in.inputs[0]) + " can't become " +
                                to_string(in.exprs.at("shape")));
  }
};

struct PermuteParams {
  std::vector<int> perm;
  int element;

  explicit PermuteParams(const StepView& s) : perm(s.permutation("perm")), element(element_size(s.output().dtype)) {
    s.require(s.output().rank() == perm.size(), "the output's rank is not the input's");
  }
};

class PermuteStep : public StepKernel {
 public:
  using Params = PermuteParams;
  PermuteStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return permuted(in.inputs[0]); }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims strides = permuted(in.strides[0]);
    if (is_dense(y, strides)) return view();
    return {plan_copy({y, strides, 0, p_.element}, isa_), 0, nullptr};
  }

 private:
  Dims permuted(const Dims& dims) const {
    Dims out(p_.perm.size());
    for (size_t i = 0; i < out.size(); ++i) out[i] = dims[p_.perm[i]];
    return out;
  }

  Params p_;
  Isa isa_;
};

struct SliceParams {
  int axis, element;
  int64_t step;

  explicit SliceParams(const StepView& s)
      : axis(s.axis("axis")), element(element_size(s.output().dtype)), step(s.integer("step")) {
    s.require(s.output().rank() == s.input(0).rank(), "the output's rank is not the input's");
  }
};

class SliceStep : public StepKernel {
 public:
  using Params = SliceParams;
  SliceStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    const auto [start, end] = bounds(in);
    y[p_.axis] = start < end ? (end - start - 1) / p_.step + 1 : 0;
    return y;
  }

  // A view where the elements stay together and the view is as aligned as a buffer.
  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims& x = in.inputs[0];
    Dims strides = dense_strides(x);
    const int64_t offset = bounds(in).first * strides[p_.axis];
    strides[p_.axis] *= p_.step;
    const int64_t bytes = offset * p_.element;
    if (is_dense(y, strides) && bytes % static_cast<int64_t>(AlignedBuffer::kAlignment) == 0) return view(bytes);
    return {plan_copy({y, strides, offset, p_.element}, isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }
  int64_t first_channel(const StepShapes& in) const override {
    return p_.step == 1 && p_.axis + 1 == static_cast<int>(in.inputs[0].size()) ? bounds(in).first : -1;
  }

 private:
  std::pair<int64_t, int64_t> bounds(const StepShapes& in) const {
    const int64_t n = in.inputs[0][p_.axis];
    const auto place = [n](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n); };
    return {place(in.exprs.at("start")[0]), place(in.exprs.at("end")[0])};
  }

  Params p_;
  Isa isa_;
};

struct PadParams {
  Dims lo, hi;
  PadMode mode;
  std::vector<std::byte> fill;

  explicit PadParams(const StepView& s)
      : lo(s.ints("lo")), hi(s.ints("hi")), mode(static_cast<PadMode>(s.integer("mode"))) {
    s.require(s.output().rank() == s.input(0).rank(), "the output's rank is not the input's");
    fill.resize(element_size(s.output().dtype));
    const double given = s.number("fill");
    if (s.output().dtype == DType::u8) {
      s.require(given >= 0 && given <= 255 && given == std::floor(given), "'fill' is not a u8 code");
      fill[0] = static_cast<std::byte>(given);
    } else {
      const auto value = static_cast<float>(given);
      std::memcpy(fill.data(), &value, sizeof value);
    }
    for (size_t i = 0; i < lo.size(); ++i) {
      s.require(mode == PadMode::constant || (lo[i] >= 0 && hi[i] >= 0), "only constant padding crops");
    }
  }
};

class PadStep : public StepKernel {
 public:
  using Params = PadParams;
  PadStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    for (size_t i = 0; i < y.size(); ++i) {
      check_reach(y[i], p_.lo[i]);
      check_reach(y[i], p_.hi[i]);
      y[i] += p_.lo[i] + p_.hi[i];
      if (y[i] < 0) throw std::invalid_argument("padding crops more than the input " + to_string(in.inputs[0]));
    }
    return y;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    const auto zero = [](int64_t d) { return d == 0; };
    if (std::ranges::all_of(p_.lo, zero) && std::ranges::all_of(p_.hi, zero)) return view();
    return {plan_pad(in.inputs[0], p_.lo, p_.hi, p_.mode, p_.fill, static_cast<int>(p_.fill.size()), isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override { return p_.lo[0] != 0 || p_.hi[0] != 0; }

 private:
  void check_reach(int64_t n, int64_t pad) const {
    const int64_t reach = p_.mode == PadMode::reflect ? n - 1 : n;
    const bool fits =
        p_.mode == PadMode::constant || pad == 0 || (p_.mode == PadMode::replicate ? n > 0 : pad <= reach);
    if (!fits) throw std::invalid_argument("padding " + std::to_string(pad) + " is too large for " + std::to_string(n));
  }

  Params p_;
  Isa isa_;
};

struct ExpandParams {
  int element;

  explicit ExpandParams(const StepView& s) : element(element_size(s.output().dtype)) {
    const size_t rank = s.step().exprs.at("shape").size();
    s.require(rank == s.output().rank(), "the output's rank is not that of 'shape'");
    s.require(rank >= s.input(0).rank(), "'shape' has fewer dimensions than the input");
  }
};

class ExpandStep : public StepKernel {
 public:
  using Params = ExpandParams;
  ExpandStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.exprs.at("shape");
    const size_t lead = y.size() - in.inputs[0].size();
    const Dims x = pad_rank(in.inputs[0], y.size());
    for (size_t i = 0; i < y.size(); ++i) {
      if (y[i] == -1 && i >= lead) y[i] = x[i];
      if (y[i] < 0 || (x[i] != 1 && x[i] != y[i])) {
        throw std::invalid_argument("shape " + to_string(in.inputs[0]) + " does not expand to " +
                                    to_string(in.exprs.at("shape")));
      }
    }
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims x = pad_rank(in.inputs[0], y.size());
    if (x == y) return view();
    Dims strides = dense_strides(x);
    for (size_t i = 0; i < y.size(); ++i) strides[i] = x[i] == y[i] ? strides[i] : 0;
    return {plan_copy({y, strides, 0, p_.element}, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct WindowsParams {
  Dims axes, size, stride, dilation;
  int element;

  explicit WindowsParams(const StepView& s)
      : axes(s.ints("axes")),
        size(s.ints("size")),
        stride(s.ints("stride")),
        dilation(s.ints("dilation")),
        element(element_size(s.output().dtype)) {
    const auto rank = static_cast<int64_t>(s.input(0).rank());
    s.require(!axes.empty() && axes.back() < rank, "'axes' are not dims of the operand");
    s.require(std::ranges::is_sorted(axes, std::less_equal<>()), "'axes' do not ascend");
    for (const Dims* each : {&size, &stride, &dilation}) {
      s.require(each->size() == axes.size(), "'size', 'stride' and 'dilation' do not have one entry an axis");
    }
    s.require(s.output().rank() == s.input(0).rank() + axes.size(), "the output's rank is not that of the windows");
  }
};

class WindowsStep : public StepKernel {
 public:
  using Params = WindowsParams;
  WindowsStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    for (size_t i = 0; i < p_.axes.size(); ++i) {
      int64_t& n = y[static_cast<size_t>(p_.axes[i])];
      const int64_t reach = (p_.size[i] - 1) * p_.dilation[i] + 1;
      if (n < reach) {
        throw std::invalid_argument("a window of " + std::to_string(reach) + " is larger than axis " +
                                    std::to_string(p_.axes[i]) + " of " + to_string(in.inputs[0]));
      }
      n = (n - reach) / p_.stride[i] + 1;
    }
    return with_windows(y, p_.size);
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    Dims strides = dense_strides(in.inputs[0]), inside;
    for (size_t i = 0; i < p_.axes.size(); ++i) {
      int64_t& stride = strides[static_cast<size_t>(p_.axes[i])];
      inside.push_back(stride * p_.dilation[i]);
      stride *= p_.stride[i];
    }
    strides = with_windows(strides, inside);
    if (is_dense(y, strides)) return view();
    return {plan_copy({y, strides, 0, p_.element}, isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override { return p_.axes[0] == 0; }

 private:
  // `of`, and behind the last axis what windows have.
  Dims with_windows(Dims of, const Dims& windows) const {
    of.insert(of.begin() + p_.axes.back() + 1, windows.begin(), windows.end());
    return of;
  }

  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> move_rows() {
  return {kernel_row<ConcatStep>("concat"),  kernel_row<ReshapeStep>("reshape"), kernel_row<PermuteStep>("permute"),
          kernel_row<SliceStep>("slice"),    kernel_row<PadStep>("pad"),         kernel_row<ExpandStep>("expand"),
          kernel_row<WindowsStep>("windows")};
}

}  // namespace qfx
