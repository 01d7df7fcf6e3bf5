// The part of Placement that is about rows: quantized once for all who read them, and several steps in one pass.
#include <algorithm>
#include <string>
#include <utility>

#include "runtime/placement.h"
#include "runtime/row_chain.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

int64_t rows_of(const Dims& shape) {
  return element_count({shape.data(), shape.size() - 1});
}

}  // namespace

// Whether step `s` takes the rows of its operand quantized, as others do: the first of the steps that read them alike
// has them made.
bool Placement::add_on_quantized(size_t s, const StepShapes& in) {
  const Step& step = program_.steps()[s];
  const auto how = loaded_.kernels[s]->quantized_rows();
  if (!how) return false;
  const Quantized* rows = quantized(step.inputs[0], *how);
  if (rows == nullptr) {
    const auto& uses = readers_->of(step.inputs[0]);
    if (std::ranges::count_if(uses, [&](const auto& use) { return wants(use, *how); }) < 2) return false;
    rows = &add_rows({how->plan(rows_of(in.inputs[0])), static_cast<int>(s), step.name, "quantize_rows"},
                     step.inputs[0], *how, dense_place(step.inputs[0]));
  }
  std::vector<Place> operands{rows->place};
  for (size_t i = 1; i < in.inputs.size(); ++i) operands.push_back(dense_place(step.inputs[i]));
  add_results(s, {loaded_.kernels[s]->plan_quantized(in, shapes_.shape(step.output())), 0, nullptr},
              std::move(operands));
  return true;
}

// How all that read a value want its rows quantized, if they want them so and alike.
std::optional<QuantizedRows> Placement::wanted(int v) const {
  const auto& uses = readers_->of(v);
  if (uses.empty() || readers_->leaves(v)) return std::nullopt;
  const auto how = loaded_.kernels[uses[0].step]->quantized_rows();
  const bool alike = how && std::ranges::all_of(uses, [&](const auto& use) { return wants(use, *how); });
  return alike ? how : std::nullopt;
}

// Whether step `s` is done, with those that follow it row by row to where its rows become codes.
bool Placement::add_chain(size_t s, const std::vector<StepShapes>& seen) {
  const Dims& shape = seen[s - first_].inputs[0];
  Chain chain;
  if (shape.empty() || element_count(shape) == 0 || !extend(chain, s, seen)) return false;
  auto work = chain.works.size() == 1 ? std::move(chain.works[0])
                                      : chain_rows(std::move(chain.works), rows_of(shape), shape.back());
  if (work == nullptr) return false;
  for (const size_t t : chain.steps) done_[t] = 1;
  Named named{std::move(work), static_cast<int>(s), joined(chain, &Step::name), joined(chain, &Step::op)};
  const size_t last = chain.steps.back();
  if (chain.how) {
    add_rows(std::move(named), program_.steps()[last].output(), *chain.how, operands_of(s)[0]);
  } else {
    const int v = program_.steps()[last].output();
    add_work(std::move(named), shapes_.shape(v), {operands_of(s)[0]}, {target_of(v)}, {shapes_.bytes(v)});
  }
  return true;
}

// The names of a chain's steps, or their operations.
std::string_view Placement::joined(const Chain& chain, std::string Step::* field) {
  std::string& text = draft_.names.emplace_back();
  for (const size_t t : chain.steps) {
    if (!text.empty()) text += '+';
    text += program_.steps()[t].*field;
  }
  return text;
}

// Adds step `s`, and what follows it, to a chain; false where it leads to no codes, or they are a step of its own.
bool Placement::extend(Chain& chain, size_t s, const std::vector<StepShapes>& seen) const {
  if (!loaded_.kernels[s]->goes_by_rows() || done_[s]) return false;
  const StepShapes& in = seen[s - first_];
  const int y = program_.steps()[s].output();
  chain.steps.push_back(s);
  if (value(y).dtype != DType::f32) {
    if (chain.steps.size() > 1) chain.works.push_back(loaded_.kernels[s]->plan(in, shapes_.shape(y)).work);
    return chain.steps.size() > 1;
  }
  chain.how = wanted(y);
  if (chain.how) {
    if (auto whole = loaded_.kernels[s]->plan_quantizing(in, *chain.how)) {
      chain.works.push_back(std::move(whole));
      return true;
    }
    chain.works.push_back(loaded_.kernels[s]->plan(in, shapes_.shape(y)).work);
    chain.works.push_back(chain.how->plan(rows_of(shapes_.shape(y))));
    return true;
  }
  const auto& uses = readers_->of(y);
  if (uses.size() != 1 || readers_->leaves(y)) return false;
  const size_t at = chain.works.size();
  if (!extend(chain, static_cast<size_t>(uses[0].step), seen)) return false;
  auto work = loaded_.kernels[s]->plan(in, shapes_.shape(y)).work;
  chain.works.insert(chain.works.begin() + static_cast<std::ptrdiff_t>(at), std::move(work));
  return true;
}

bool Placement::wants(const Readers::Use& use, const QuantizedRows& how) const {
  return use.operand == 0 && loaded_.kernels[use.step]->quantized_rows() == how;
}

const Placement::Quantized* Placement::quantized(int v, const QuantizedRows& how) const {
  const auto known = std::ranges::find_if(quantized_, [&](const Quantized& q) { return q.value == v && q.how == how; });
  return known == quantized_.end() ? nullptr : &*known;
}

// Work that makes the rows of a value, quantized.
const Placement::Quantized& Placement::add_rows(Named named, int v, const QuantizedRows& how, const Place& from) {
  const Dims& shape = shapes_.shape(v);
  const int64_t bytes = how.bytes(rows_of(shape));
  const Place place{add_storage({Location::Base::arena, 0, bytes}), 0};
  add_work(std::move(named), shape, {from}, {place}, {bytes});
  return quantized_.emplace_back(v, how, place);
}

}  // namespace qfx
