#include "runtime/bands.h"

#include <algorithm>
#include <stdexcept>

namespace qfx {
namespace {

// A byte that passes through memory costs as many times one multiply-accumulate or byte in cache.
constexpr int64_t kMemoryCost = 5;
// Bands have to save this part of what the steps cost.
constexpr int64_t kLeastPart = 32;

bool is_image(const Dims& shape) {
  return shape.size() == 4 && shape[0] == 1;
}

// Multiply-accumulates and bytes of a step for the whole image.
int64_t cost_of(const LoadedProgram& loaded, int s, const ValueShapes& shapes) {
  const Step& step = loaded.program->steps()[s];
  const Dims& y = shapes[step.output()];
  int64_t cost = bytes_of(*loaded.program, step.output(), shapes);
  for (const int v : step.inputs) cost += bytes_of(*loaded.program, v, shapes);
  return cost + y[1] * y[2] * static_cast<int64_t>(loaded.kernels[s]->packed_bytes());
}

// The first steps of a program, as far as each computes its rows from windows of rows.
class Run {
 public:
  Run(const LoadedProgram& loaded, std::span<const InputLayout> inputs)
      : shapes(constant_shapes(*loaded.program)), loaded_(loaded), readers_(loaded.program->values().size(), 0) {
    const auto& ids = loaded.program->inputs();
    for (size_t i = 0; i < ids.size(); ++i) shapes[ids[i]] = inputs[i].shape;
    for (const Step& step : loaded.program->steps()) {
      for (const int v : step.inputs) ++readers_[v];
    }
  }

  ValueShapes shapes;

  bool extend(int s) {
    const Step& step = loaded_.program->steps()[s];
    if (!loaded_.rows[s]->row_window) return false;
    try {
      shapes[step.output()] = loaded_.kernels[s]->shape(step_shapes(loaded_, s, shapes));
      element_count(shapes[step.output()]);
    } catch (const std::invalid_argument&) {
      return false;
    }
    const Dims& y = shapes[step.output()];
    if (!is_image(y) || element_count(y) == 0) return false;
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      if (!has_rows(s, static_cast<int>(i), y)) return false;
    }
    return true;
  }

 private:
  bool has_rows(int s, int operand, const Dims& y) const {
    const int v = loaded_.program->steps()[s].inputs[operand];
    const Value& value = loaded_.program->values()[v];
    const Dims& x = shapes[v];
    if (value.constant >= 0) return operand > 0 && (x.size() < 3 || x[x.size() - 3] == 1);
    if (!is_image(x)) return false;
    const RowWindow window = loaded_.kernels[s]->row_window();
    const auto& ids = loaded_.program->inputs();
    if (std::ranges::find(ids, v) != ids.end()) {
      const bool free = value.shape[window.axis] < 0 && window.extent == 1 && window.stride == 1;
      return free && loaded_.rows[s]->strided_input && readers_[v] == 1 && x[window.axis] == y[1];
    }
    return window.axis == 1 && (operand == 0 && (window.extent > 1 || window.stride > 1) ? true : x[1] == y[1]);
  }

  const LoadedProgram& loaded_;
  std::vector<int> readers_;
};

// Costs of bands of `rows` rows: of the largest step's operands and result in bytes, and of the rows that more than one
// band computes.
struct BandCost {
  int64_t widest = 0, repeated = 0;
};

std::optional<BandCost> band_cost(const LoadedProgram& loaded, const BandChoice& choice) {
  const Program& program = *loaded.program;
  const int64_t height = choice.shapes[choice.value][1];
  const int64_t middle = std::max<int64_t>(0, (height - choice.rows) / 2);
  const auto band = band_of(loaded, choice, {middle, std::min(height, middle + choice.rows)});
  if (!band) return std::nullopt;
  BandCost cost;
  for (int s = 0; s < choice.steps; ++s) {
    const Step& step = program.steps()[s];
    int64_t bytes = bytes_of(program, step.output(), band->shapes);
    for (const int v : step.inputs) bytes += bytes_of(program, v, band->shapes);
    cost.widest = std::max(cost.widest, bytes);
    const auto computed = static_cast<double>(band->values[step.output()].count()) * static_cast<double>(height);
    const double needed = static_cast<double>(choice.rows) * static_cast<double>(choice.shapes[step.output()][1]);
    cost.repeated += static_cast<int64_t>(std::max(0.0, computed / needed - 1.0) *
                                          static_cast<double>(cost_of(loaded, s, choice.shapes)));
  }
  return cost;
}

void join(std::optional<Rows>& rows, const Rows& more) {
  rows = rows ? Rows{std::min(rows->first, more.first), std::max(rows->last, more.last)} : more;
}

// The rows of every value that the rows `out` are computed from, backwards; what steps read of their operands is noted
// in `band`. Nothing where a step's window misses its image.
std::optional<std::vector<std::optional<Rows>>> needed_rows(const LoadedProgram& loaded, const BandChoice& choice,
                                                            Rows out, Band& band) {
  const Program& program = *loaded.program;
  std::vector<std::optional<Rows>> needed(choice.shapes.size());
  needed[choice.value] = out;
  for (size_t s = band.operands.size(); s-- > 0;) {
    const Step& step = program.steps()[s];
    if (!needed[step.output()]) return std::nullopt;
    const Rows y = *needed[step.output()];
    const RowWindow w = loaded.kernels[s]->row_window();
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const int v = step.inputs[i];
      Rows x = y;
      if (program.values()[v].constant >= 0) {
        x = {0, 0};
      } else if (i == 0) {
        const int64_t height = choice.shapes[v][static_cast<size_t>(w.axis)];
        const int64_t first = y.first * w.stride - w.padding.lo;
        const int64_t last = (y.last - 1) * w.stride - w.padding.lo + w.extent;
        x = {std::max<int64_t>(0, first), std::min(height, last)};
        band.padding[s] = {x.first - first, last - x.last};
        if (x.count() <= 0) return std::nullopt;
      }
      band.operands[s].push_back(x);
      if (program.values()[v].constant < 0) join(needed[v], x);
    }
  }
  return needed;
}

}  // namespace

bool Band::has_plan_of(const Band& other) const {
  if (shapes != other.shapes) return false;
  for (size_t s = 0; s < operands.size(); ++s) {
    if (padding[s].lo != other.padding[s].lo || padding[s].hi != other.padding[s].hi) return false;
    if (starts[s] != other.starts[s] || operands[s].size() != other.operands[s].size()) return false;
    for (size_t i = 0; i < operands[s].size(); ++i) {
      if (operands[s][i].count() != other.operands[s][i].count()) return false;
    }
  }
  return true;
}

int row_axis(const LoadedProgram& loaded, int input) {
  for (size_t s = 0; s < loaded.kernels.size(); ++s) {
    if (loaded.program->steps()[s].inputs[0] == input) return loaded.kernels[s]->row_window().axis;
  }
  return 1;
}

std::optional<Band> band_of(const LoadedProgram& loaded, const BandChoice& choice, Rows out) {
  const Program& program = *loaded.program;
  const auto steps = static_cast<size_t>(choice.steps);
  Band band{choice.shapes, std::vector<Rows>(choice.shapes.size()), std::vector<std::vector<Rows>>(steps),
            std::vector<std::vector<int64_t>>(steps), std::vector<RowPadding>(steps)};
  const auto needed = needed_rows(loaded, choice, out, band);
  if (!needed) return std::nullopt;
  for (size_t v = 0; v < needed->size(); ++v) band.values[v] = (*needed)[v].value_or(Rows());
  for (size_t s = 0; s < steps; ++s) {
    const Step& step = program.steps()[s];
    band.shapes[step.output()][1] = band.values[step.output()].count();
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      band.starts[s].push_back(band.operands[s][i].first - band.values[step.inputs[i]].first);
    }
  }
  for (const int v : program.inputs()) {
    if ((*needed)[v]) band.shapes[v][static_cast<size_t>(row_axis(loaded, v))] = band.values[v].count();
  }
  return band.values[choice.value] == out ? std::optional<Band>(std::move(band)) : std::nullopt;
}

// Bands save the traffic of values that are larger than the caches, and repeat the rows where windows overlap.
std::optional<BandChoice> choose_bands(const LoadedProgram& loaded, std::span<const InputLayout> inputs,
                                       int64_t cached_bytes) {
  const Program& program = *loaded.program;
  if (inputs.size() != 1 || !is_image(inputs[0].shape)) return std::nullopt;
  const Frontier frontier(program);
  Run run(loaded, inputs);
  std::optional<BandChoice> best;
  int64_t moved = 0, total = 0, best_saved = 0;
  for (int s = 0; s < static_cast<int>(program.steps().size()) && run.extend(s); ++s) {
    const Step& step = program.steps()[s];
    total += cost_of(loaded, s, run.shapes);
    const int value = frontier.single(s);
    const auto passes = [&](int v) {
      const int64_t bytes = bytes_of(program, v, run.shapes);
      return bytes > cached_bytes ? bytes : 0;
    };
    for (const int v : step.inputs) moved += program.values()[v].constant < 0 ? passes(v) : 0;
    moved += passes(step.output());
    if (value < 0) continue;
    // The first operand and the last result pass through memory in any case.
    const int64_t traffic = kMemoryCost * (moved - passes(program.inputs()[0]) - passes(value));
    if (traffic <= best_saved || traffic < total / kLeastPart) continue;
    BandChoice choice{s + 1, value, 0, run.shapes};
    for (int64_t rows = 1; 2 * rows <= run.shapes[value][1]; rows *= 2) {
      choice.rows = rows;
      const auto cost = band_cost(loaded, choice);
      if (!cost || (cost->widest > cached_bytes && rows > 1)) break;
      const int64_t saved = traffic - cost->repeated;
      if (saved <= best_saved || saved < total / kLeastPart) continue;
      best_saved = saved;
      best = choice;
    }
  }
  return best;
}

}  // namespace qfx
