#include <barrier>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>

#include "core/functions.h"
#include "core/half.h"
#include "kernel_check.h"
#include "recurrent/cell.h"
#include "recurrent/recurrent.h"

using namespace qfx;
using namespace qfx::test;

namespace {

using Floats = std::vector<float>;

// The constants of a matrix of weights, kept alive.
struct Matrix {
  int64_t rows, features;
  std::vector<int8_t> codes;
  Floats scale;
  std::vector<int32_t> zero_point;
  std::vector<uint16_t> halves;

  Matrix(Rng& rng, int64_t n, int64_t k, bool half, bool centered) : rows(n), features(k) {
    if (half) {
      for (int64_t i = 0; i < n * k; ++i)  // of either sign, 2^-8 to 2^0, and some subnormal ones
        halves.push_back(static_cast<uint16_t>(rng.integer(0, 1) << 15 | rng.integer(0, 20) * 0x2c0));
      return;
    }
    for (int64_t i = 0; i < n * k; ++i) codes.push_back(static_cast<int8_t>(rng.integer(-128, 127)));
    scale = random_floats(rng, n, 0.0005, 0.01);
    if (!centered)
      for (int64_t i = 0; i < n; ++i) zero_point.push_back(static_cast<int32_t>(rng.integer(-128, 127)));
  }
  RowWeights weights() const { return {codes, scale, zero_point, halves}; }
};

struct Affine8 {
  float scale = 1.0f;
  double zero_point = 0.0;
};

Affine8 affine_of_all(const std::vector<const float*>& rows, int64_t k) {
  double low = 0.0, high = 0.0;
  for (const float* row : rows)
    for (int64_t i = 0; i < k; ++i) {
      low = std::min<double>(low, row[i]);
      high = std::max<double>(high, row[i]);
    }
  Affine8 a;
  a.scale = static_cast<float>((high - low) / 255);
  if (a.scale == 0.0f) a.scale = 1.0f;
  a.zero_point = std::min(std::max(std::nearbyint(-low / static_cast<double>(a.scale)), 0.0), 255.0);
  return a;
}

// Of each row: of all together, or its own.
std::vector<Affine8> affine_of(const std::vector<const float*>& rows, int64_t k, bool per_row) {
  std::vector<Affine8> each(rows.size(), affine_of_all(rows, k));
  for (size_t r = 0; per_row && r < rows.size(); ++r) each[r] = affine_of_all({rows[r]}, k);
  return each;
}

// Row `o` of the matrix times x, as PackedRecurrent defines it.
float times(const Matrix& m, int64_t o, const float* x, const Affine8& a) {
  float half_sum = 0.0f;
  int64_t sum = 0;
  for (int64_t i = 0; i < m.features; ++i) {
    const auto at = static_cast<size_t>(o * m.features + i);
    if (!m.halves.empty()) {
      volatile float product = x[i] * float_of_half(m.halves[at]);
      half_sum += product;
      continue;
    }
    const double q = std::nearbyint(static_cast<double>(x[i]) / static_cast<double>(a.scale)) + a.zero_point;
    const int64_t z = m.zero_point.empty() ? 0 : m.zero_point[static_cast<size_t>(o)];
    sum += static_cast<int64_t>(std::min(std::max(q, 0.0), 255.0) - a.zero_point) * (m.codes[at] - z);
  }
  if (!m.halves.empty()) return half_sum;
  volatile float factor = a.scale * m.scale[static_cast<size_t>(o)];
  return static_cast<float>(sum) * factor;
}

struct Network {
  Cell cell;
  int64_t directions, inputs, hidden, projected;
  Matrix input, recurrent, projection;
  Floats input_bias, recurrent_bias;
  bool per_row = false;

  static int64_t gates(Cell cell) { return cell == Cell::lstm ? 4 : (cell == Cell::gru ? 3 : 1); }

  Network(Rng& rng, Cell c, int64_t d, int64_t k, int64_t h, int64_t p, bool half, bool centered, bool bias)
      : cell(c),
        directions(d),
        inputs(k),
        hidden(h),
        projected(p),
        input(rng, d * gates(c) * h, k, half, centered),
        recurrent(rng, d * gates(c) * h, p > 0 ? p : h, half, centered),
        projection(rng, d * p, h, half, centered) {
    if (bias) input_bias = random_floats(rng, input.rows, -1, 1);
    if (bias) recurrent_bias = random_floats(rng, input.rows, -1, 1);
  }

  RecurrentLayer layer() const {
    RecurrentLayer l;
    l.cell = cell;
    l.directions = directions;
    l.inputs = inputs;
    l.hidden = hidden;
    l.projected = projected;
    l.input = input.weights();
    l.recurrent = recurrent.weights();
    if (projected > 0) l.projection = projection.weights();
    l.input_bias = input_bias;
    l.recurrent_bias = recurrent_bias;
    l.per_row = per_row;
    return l;
  }
  int64_t state() const { return projected > 0 ? projected : hidden; }
};

struct Call {
  RecurrentShape shape;
  Floats x, h, c;
  std::vector<int64_t> sizes;

  Call(Rng& rng, const Network& n, std::vector<int64_t> batch_sizes, int64_t first = 0, int64_t total = -1) {
    shape.steps = static_cast<int64_t>(batch_sizes.size());
    shape.batch = batch_sizes[0];
    for (const int64_t size : batch_sizes) shape.rows += size;
    sizes = batch_sizes;
    shape.first = first;
    shape.total = total < 0 ? n.directions : total;
    x = random_floats(rng, shape.rows * n.inputs, -2, 3);
    h = random_floats(rng, shape.total * shape.batch * n.state(), -1, 1);
    c = random_floats(rng, shape.total * shape.batch * n.hidden, -2, 2);
  }
  std::vector<const void*> in(const Network& n) const {
    if (n.cell != Cell::lstm) return {x.data(), h.data(), sizes.data()};
    return {x.data(), h.data(), c.data(), sizes.data()};
  }
  std::vector<Bytes> bytes(const Network& n) const {
    std::vector<Bytes> all{bytes_of(x), bytes_of(h)};
    if (n.cell == Cell::lstm) all.push_back(bytes_of(c));
    all.push_back(bytes_of(sizes));
    return all;
  }
};

using Results = std::vector<Floats>;

// Results and last states by simple loops: sequence after sequence is not possible, since all of a time step may share
// a scale, so time step after time step.
Results reference(const Network& n, const Call& call) {
  const RecurrentShape& s = call.shape;
  const int64_t state = n.state(), gates = Network::gates(n.cell), width = n.directions * state;
  Floats y(static_cast<size_t>(s.rows * width)), last_h, last_c;
  std::vector<int64_t> offset{0};
  for (const int64_t size : call.sizes) offset.push_back(offset.back() + size);
  std::vector<const float*> all;
  for (int64_t r = 0; r < s.rows; ++r) all.push_back(call.x.data() + r * n.inputs);
  const std::vector<Affine8> x_affine = affine_of(all, n.inputs, n.per_row);
  for (int64_t d = 0; d < n.directions; ++d) {
    const auto given = static_cast<size_t>((s.first + d) * s.batch);
    std::vector<Floats> h, c;
    for (size_t b = 0; b < static_cast<size_t>(s.batch); ++b) {
      const float* from_h = call.h.data() + (given + b) * static_cast<size_t>(state);
      const float* from_c = call.c.data() + (given + b) * static_cast<size_t>(n.hidden);
      h.emplace_back(from_h, from_h + state);
      c.emplace_back(from_c, from_c + n.hidden);
    }
    for (int64_t step = 0; step < s.steps; ++step) {
      const int64_t t = d == 0 ? step : s.steps - 1 - step;
      const int64_t batch = offset[static_cast<size_t>(t + 1)] - offset[static_cast<size_t>(t)];
      std::vector<const float*> before;
      for (int64_t b = 0; b < batch; ++b) before.push_back(h[static_cast<size_t>(b)].data());
      const std::vector<Affine8> affine = affine_of(before, state, n.per_row);
      std::vector<Floats> after(static_cast<size_t>(batch), Floats(static_cast<size_t>(n.hidden)));
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t u = 0; u < n.hidden; ++u) {
          float from_input[4] = {}, from_state[4] = {}, sum[4] = {};
          for (int64_t g = 0; g < gates; ++g) {
            const int64_t o = (d * gates + g) * n.hidden + u;
            const float bi = n.input_bias.empty() ? 0.0f : n.input_bias[static_cast<size_t>(o)];
            const float bh = n.recurrent_bias.empty() ? 0.0f : n.recurrent_bias[static_cast<size_t>(o)];
            const bool apart = n.cell == Cell::gru && g == 2;
            const auto row = static_cast<size_t>(offset[static_cast<size_t>(t)] + b), one = static_cast<size_t>(b);
            from_input[g] = times(n.input, o, all[row], x_affine[row]) + (apart ? bi : bi + bh);
            from_state[g] = times(n.recurrent, o, before[one], affine[one]) + (apart ? bh : 0.0f);
            sum[g] = from_input[g] + from_state[g];
          }
          float& to = after[static_cast<size_t>(b)][static_cast<size_t>(u)];
          float& cell = c[static_cast<size_t>(b)][static_cast<size_t>(u)];
          if (n.cell == Cell::lstm) {
            cell = times_sigmoid(cell, sum[1]) + recurrent::tanh_times_sigmoid(sum[2], sum[0]);
            to = recurrent::tanh_times_sigmoid(cell, sum[3]);
          } else if (n.cell == Cell::gru) {
            const float fresh = tanh_of(from_input[2] + times_sigmoid(from_state[2], sum[0]));
            to = fresh + times_sigmoid(h[static_cast<size_t>(b)][static_cast<size_t>(u)] - fresh, sum[1]);
          } else {
            to = n.cell == Cell::rnn_tanh ? tanh_of(sum[0]) : std::max(sum[0], 0.0f);
          }
        }
      if (n.projected > 0) {
        std::vector<const float*> raw;
        for (const Floats& row : after) raw.push_back(row.data());
        const std::vector<Affine8> raw_affine = affine_of(raw, n.hidden, n.per_row);
        std::vector<Floats> projected;
        for (size_t b = 0; b < raw.size(); ++b) {
          projected.emplace_back();
          for (int64_t u = 0; u < state; ++u)
            projected.back().push_back(times(n.projection, d * state + u, raw[b], raw_affine[b]));
        }
        after = projected;
      }
      for (int64_t b = 0; b < batch; ++b) {
        h[static_cast<size_t>(b)] = after[static_cast<size_t>(b)];
        const int64_t at = (offset[static_cast<size_t>(t)] + b) * width + d * state;
        std::copy(after[static_cast<size_t>(b)].begin(), after[static_cast<size_t>(b)].end(), y.begin() + at);
      }
    }
    for (const Floats& row : h) last_h.insert(last_h.end(), row.begin(), row.end());
    for (const Floats& row : c) last_c.insert(last_c.end(), row.begin(), row.end());
  }
  if (n.cell == Cell::lstm) return {y, last_h, last_c};
  return {y, last_h};
}

// Memory for results like these, and for the room behind them.
struct Space {
  Results results;
  std::vector<std::byte> room;
  std::vector<void*> out;

  Space(const Results& like, int64_t room_bytes) : room(static_cast<size_t>(room_bytes)) {
    for (const Floats& result : like) results.emplace_back(result.size(), -77.0f);
    for (Floats& result : results) out.push_back(result.data());
    if (room_bytes > 0) out.push_back(room.data());
  }
  Space(const Space&) = delete;
  Space& operator=(const Space&) = delete;
};

bool same_bits(const Results& a, const Results& b) {
  for (size_t r = 0; r < a.size(); ++r)
    if (std::memcmp(a[r].data(), b[r].data(), a[r].size() * sizeof(float)) != 0) return false;
  return a.size() == b.size();
}

class StdMeeting final : public Meeting {
 public:
  explicit StdMeeting(int team) : barrier_(team) {}
  void wait(int) noexcept override { barrier_.arrive_and_wait(); }

 private:
  std::barrier<> barrier_;
};

// All threads at once. `team`: those that meet, the others have nothing to do.
void run_together(const Work& work, const std::vector<const void*>& in, Space& space, int threads, int team) {
  StdMeeting meeting(team);
  std::vector<std::thread> running;
  std::vector<std::unique_ptr<GuardedBuffer>> scratch;
  const size_t bytes = (work.scratch_bytes() + 63) / 64 * 64;
  for (int tid = 0; tid < threads; ++tid) scratch.push_back(std::make_unique<GuardedBuffer>(bytes));
  for (int tid = 0; tid < threads; ++tid)
    running.emplace_back([&, tid] {
      work.run_together(in.data(), space.out.data(), scratch[static_cast<size_t>(tid)]->data<std::byte>(), tid, threads,
                        meeting);
    });
  for (std::thread& thread : running) thread.join();
}

// Every level and number of threads against the simple loops, bit for bit.
void check_alone(const Network& n, const Call& call, const std::string& what) {
  const RecurrentLayer layer = n.layer();
  const Results expected = reference(n, call);
  const int64_t room = pack_recurrent(layer, Isa::scalar)->room(call.shape);
  for (const Isa isa : isas()) {
    const auto packed = pack_recurrent(layer, isa);
    const auto work = packed->plan(call.shape);
    const int64_t units = n.cell == Cell::lstm || n.cell == Cell::gru ? 16 : 64;
    const int64_t parts = n.directions * ((n.hidden + units - 1) / units);
    for (const int threads : {2, 3, 5}) {
      const int team = static_cast<int>(std::min<int64_t>(threads, parts));
      Space space(expected, room);
      run_together(*work, call.in(n), space, threads, team);
      if (!same_bits(space.results, expected))
        throw Failure(what + ": " + std::to_string(threads) + " threads differ on " + isa_name(isa));
    }
  }
  std::vector<std::unique_ptr<PackedRecurrent>> kept;
  const auto plan = [&](Isa isa) {
    kept.push_back(pack_recurrent(layer, isa));
    return kept.back()->plan(call.shape);
  };
  check_on_every_isa(plan, call.bytes(n), expected, what, room);
}

// Where weights are int8, with one scale for all rows and with one a row.
void check(Network n, const Call& call, const std::string& what) {
  for (const bool per_row : {false, true}) {
    if (per_row && !n.input.halves.empty()) continue;
    n.per_row = per_row;
    check_alone(n, call, what + (per_row ? ", a scale a row" : ""));
  }
}

constexpr Cell kCells[] = {Cell::lstm, Cell::gru, Cell::rnn_tanh, Cell::rnn_relu};

}  // namespace

TEST(recurrent_products_with_a_sigmoid_are_as_close_as_they_say) {
  double error = 0, joint_error = 0;
  for (int64_t i = -400000; i <= 400000; ++i) {
    const float t = static_cast<float>(i) * 0.0002f, x = (i % 2 == 0 ? 0.75f : -3.25f);
    const double exact = static_cast<double>(x) / (1 + std::exp(-static_cast<double>(t)));
    error = std::max(error, std::fabs(static_cast<double>(times_sigmoid(x, t)) / exact - 1));
    const float y = static_cast<float>(i % 1001) * 0.009f - 4.5003f;
    const double joint = std::tanh(static_cast<double>(y)) / (1 + std::exp(-static_cast<double>(t)));
    joint_error =
        std::max(joint_error, std::fabs(static_cast<double>(recurrent::tanh_times_sigmoid(y, t)) / joint - 1));
  }
  CHECK(error < 3 * 0x1p-23);
  CHECK(joint_error < 6 * 0x1p-23);
  CHECK_EQ(recurrent::tanh_times_sigmoid(-50.0f, 100.0f), -1.0f);
  CHECK_EQ(recurrent::tanh_times_sigmoid(50.0f, -100.0f), 0.0f);
  CHECK(std::isnan(recurrent::tanh_times_sigmoid(std::numeric_limits<float>::quiet_NaN(), 0.0f)));
  CHECK(std::isnan(recurrent::tanh_times_sigmoid(0.0f, std::numeric_limits<float>::quiet_NaN())));
  CHECK_EQ(times_sigmoid(1.0f, 100.0f), 1.0f);
  CHECK_EQ(times_sigmoid(1.0f, -100.0f), 0.0f);
  CHECK(std::isnan(times_sigmoid(1.0f, std::numeric_limits<float>::quiet_NaN())));
}

TEST(recurrent_float16_is_what_its_bits_say) {
  CHECK_EQ(float_of_half(0x3c00), 1.0f);
  CHECK_EQ(float_of_half(0xc000), -2.0f);
  CHECK_EQ(float_of_half(0x7bff), 65504.0f);
  CHECK_EQ(float_of_half(0x0001), 0x1p-24f);
  CHECK_EQ(float_of_half(0x83ff), -1023 * 0x1p-24f);
  CHECK(std::signbit(float_of_half(0x8000)));
  CHECK(std::isinf(float_of_half(0xfc00)) && std::isnan(float_of_half(0x7e00)));
}

TEST(recurrent_layers_of_every_cell_and_tail) {
  Rng rng(90);
  for (const Cell cell : kCells)
    for (const int64_t hidden : {1, 15, 16, 17, 33, 65, 80})
      for (const bool half : {false, true}) {
        const Network n(rng, cell, 1, rng.integer(1, 40), hidden, 0, half, rng.integer(0, 1) != 0,
                        rng.integer(0, 1) != 0);
        const int64_t batch = rng.pick(std::vector<int64_t>{1, 2, 7});
        check(n, Call(rng, n, {batch, batch, batch}),
              "cell " + shown(cell) + " hidden " + std::to_string(hidden) + (half ? " float16" : ""));
      }
}

TEST(recurrent_layers_in_both_directions_of_packed_sequences) {
  Rng rng(91);
  for (const Cell cell : kCells)
    for (const bool half : {false, true}) {
      const Network n(rng, cell, 2, 12, 20, 0, half, true, true);
      check(n, Call(rng, n, {5, 5, 4, 1, 1}, 2, 4), "packed, cell " + shown(cell));
    }
}

TEST(recurrent_projection) {
  Rng rng(92);
  for (const int64_t projected : {1, 16, 30, 70})
    for (const bool half : {false, true})
      for (const int64_t directions : {1, 2}) {
        const Network n(rng, Cell::lstm, directions, 9, 72, projected, half, projected != 30, true);
        check(n, Call(rng, n, {3, 3, 2}), "projected to " + std::to_string(projected));
      }
}

TEST(recurrent_chunks_of_many_time_steps_and_large_batches) {
  Rng rng(93);
  const Network n(rng, Cell::lstm, 2, 30, 18, 0, false, true, true);
  check(n, Call(rng, n, std::vector<int64_t>(70, 1)), "70 steps");
  check(n, Call(rng, n, {40, 40, 37, 36, 5, 5, 5, 5, 5, 5, 5, 5, 1}), "40 sequences");
  for (const Cell cell : {Cell::lstm, Cell::gru}) {
    const Network wide(rng, cell, 2, 5, 17, cell == Cell::lstm ? 7 : 0, false, false, true);
    check(wide, Call(rng, wide, {300, 260, 129, 128, 33, 1}), "300 sequences");
    const Network half(rng, cell, 1, 5, 17, 0, true, true, true);
    check(half, Call(rng, half, {200, 130}), "200 sequences in float16");
  }
}

TEST(recurrent_extreme_codes_are_exact) {
  Rng rng(94);
  Network n(rng, Cell::rnn_relu, 1, 4100, 3, 0, false, true, false);
  for (int8_t& code : n.input.codes) code = -128;
  Call call(rng, n, {1, 1});
  for (float& x : call.x) x = 255.0f;
  check(n, call, "extreme codes");
}

TEST(recurrent_scratch_is_bounded_whatever_the_batch_and_the_layer) {
  Rng rng(98);
  for (const int64_t hidden : {64, 2048})
    for (const int64_t batch : {1, 200, 4000}) {
      const Network n(rng, Cell::lstm, 2, 8, hidden, 0, false, true, false);
      const auto packed = pack_recurrent(n.layer(), Isa::scalar);
      RecurrentShape shape;
      shape.rows = shape.batch = batch;
      shape.steps = 1;
      shape.total = 2;
      // The gates of 1 MiB, 128 quantized rows, and three blocks of a panel.
      CHECK(packed->plan(shape)->scratch_bytes() <= (1 << 20) + 128 * static_cast<size_t>(hidden + 64) + 32768);
    }
}

TEST(recurrent_sequences_with_scales_of_their_own_do_not_depend_on_one_another) {
  Rng rng(99);
  for (const Cell cell : kCells) {
    Network n(rng, cell, 1, 12, 20, 0, false, true, true);
    n.per_row = true;
    const Call together(rng, n, {3, 3, 3});
    const Results all = reference(n, together);
    for (int64_t b = 0; b < 3; ++b) {
      Call alone(rng, n, {1, 1, 1});
      for (int64_t t = 0; t < 3; ++t)
        std::copy_n(together.x.begin() + (t * 3 + b) * n.inputs, n.inputs, alone.x.begin() + t * n.inputs);
      std::copy_n(together.h.begin() + b * n.hidden, n.hidden, alone.h.begin());
      std::copy_n(together.c.begin() + b * n.hidden, n.hidden, alone.c.begin());
      Results wanted = reference(n, alone);
      for (int64_t i = 0; i < 3 * n.hidden; ++i) {
        const int64_t t = i / n.hidden, u = i % n.hidden;
        CHECK_EQ(wanted[0][static_cast<size_t>(i)], all[0][static_cast<size_t>((t * 3 + b) * n.hidden + u)]);
      }
      check_alone(n, alone, "a sequence alone");
    }
    check_alone(n, together, "all of them");
  }
}

TEST(recurrent_input_that_is_not_finite_or_does_not_fit) {
  Rng rng(95);
  Network n(rng, Cell::lstm, 1, 5, 6, 0, false, true, true);
  const auto packed = pack_recurrent(n.layer(), Isa::scalar);
  const auto result = [&](Call call) {
    const auto states = static_cast<size_t>(call.shape.batch * n.hidden);
    Space space({Floats(static_cast<size_t>(call.shape.rows * n.hidden)), Floats(states), Floats(states)}, 0);
    run(*packed->plan(call.shape), call.in(n), space.out, 2);
    Floats all;
    for (const Floats& y : space.results) all.insert(all.end(), y.begin(), y.end());
    return all;
  };
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    Call call(rng, n, {2, 1});
    call.x[3] = value;
    for (const float y : result(call)) CHECK(std::isnan(y));
    Call of_state(rng, n, {2, 1});
    of_state.h[1] = value;
    for (const float y : result(of_state)) CHECK(std::isnan(y));
  }
  n.per_row = true;  // and then what follows of the sequence alone
  const auto by_rows = pack_recurrent(n.layer(), Isa::scalar);
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    Call call(rng, n, {2, 2});
    call.x[3] = value;
    Space space({Floats(24), Floats(12), Floats(12)}, 0);
    run(*by_rows->plan(call.shape), call.in(n), space.out, 2);
    for (size_t i = 0; i < 24; ++i) CHECK_EQ(std::isnan(space.results[0][i]), i / 6 % 2 == 0);
  }
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{1, 2}, {2, 0}, {2, 2}, {2, -1}, {kLargest, 1}, {2, kLargest}, {2, -kLargest}}) {
    Call call(rng, n, {2, 1});
    call.sizes = sizes;
    for (const float y : result(call)) CHECK(std::isnan(y));
  }
  Call empty(rng, n, {1});
  empty.shape.batch = 0;
  CHECK_THROWS(std::invalid_argument, packed->plan(empty.shape));
  RecurrentLayer wrong = n.layer();
  wrong.hidden = 7;
  CHECK_THROWS(std::invalid_argument, pack_recurrent(wrong, Isa::scalar));
}
