// Interpolation over channels-last codes; scale and zero point of y are those of x.
//
// Nearest, as torch in float32:
//   src = min(int(floor(float32(i) * float32(scale))), in - 1)
//
// Linear kinds: every operation in float64, rounded on its own. Along each axis, for output index i,
//   s  = align_corners ? i * scale : max((i + 0.5) * scale - 0.5, 0)
//   i0 = min(int(s), in - 1),  i1 = min(i0 + 1, in - 1),  t = min(max(s - i0, 0), 1)
// where scale is (in - 1) / (out - 1), or 0 for out == 1, when corners align; else 1 / scale_factor when one
// was given, else in / out. Then, last axis first,
//   lerp(a, b, t) = a * (1 - t) + b * t
//   row[d][h] = lerp(x[d][h][w0] - z, x[d][h][w1] - z, t_w)
//   plane[d]  = lerp(row[d][h0], row[d][h1], t_h)
//   y = clamp(rint(lerp(plane[d0], plane[d1], t_d)) + z, 0, 255)
// An axis of one input and one output element has t = 0 and changes nothing.
//
// On f32 the same, without z, and y = float32(the outermost lerp).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "core/split.h"
#include "pool/kernels.h"
#include "pool/pool.h"

namespace qfx {
namespace {

using namespace pool;

struct Source {
  int64_t low = 0, high = 0;  // offsets of the two neighbours, in elements
  double weight = 0.0;        // of the higher one
};

Source nearest_source(const InterpolateGeometry& g, int d, int64_t i) {
  const float at = std::floor(static_cast<float>(i) * static_cast<float>(g.scale[d]));
  const int64_t index = at >= static_cast<float>(g.in[d]) ? g.in[d] - 1 : static_cast<int64_t>(at);
  return {std::min(index, g.in[d] - 1), 0, 0.0};
}

Source linear_source(const InterpolateGeometry& g, int d, int64_t i) {
  const auto position = static_cast<double>(i);
  const double s = g.align_corners ? position * g.scale[d] : std::max((position + 0.5) * g.scale[d] - 0.5, 0.0);
  const int64_t last = g.in[d] - 1;
  const int64_t low = s >= static_cast<double>(last) ? last : static_cast<int64_t>(s);
  return {low, std::min(low + 1, last), std::clamp(s - static_cast<double>(low), 0.0, 1.0)};
}

class InterpolateWork : public Work {
 public:
  explicit InterpolateWork(const InterpolateGeometry& g) : g_(g) {
    const int64_t stride[3] = {g.in[1] * g.in[2] * g.channels, g.in[2] * g.channels, g.channels};
    for (int d = 0; d < 3; ++d)
      for (int64_t i = 0; i < g.out[d]; ++i) {
        Source s = g.linear ? linear_source(g, d, i) : nearest_source(g, d, i);
        s.low *= stride[d];
        s.high *= stride[d];
        axis_[d].push_back(s);
      }
    image_ = g.in[0] * stride[0];
    rows_ = g.n * g.out[0] * g.out[1];
  }

  int64_t cost() const noexcept override { return rows_ * g_.out[2] * g_.channels * (g_.linear ? 8 : 2); }

 protected:
  // body(first element of the image, sources of the three axes, first element of y) for each output pixel.
  template <class T, class Body>
  void for_each_pixel(const T* x, T* y, int tid, int threads, Body&& body) const noexcept {
    const Range part = split(rows_ * g_.out[2], tid, threads);
    for (int64_t pixel = part.begin; pixel < part.end; ++pixel) {
      const int64_t row = pixel / g_.out[2], plane = row / g_.out[1], image = plane / g_.out[0];
      body(x + image * image_, axis_[0][static_cast<size_t>(plane - image * g_.out[0])],
           axis_[1][static_cast<size_t>(row - plane * g_.out[1])],
           axis_[2][static_cast<size_t>(pixel - row * g_.out[2])], y + pixel * g_.channels);
    }
  }

  // Every weight a multiple of 1 / steps.
  bool weights_divide(double steps) const noexcept {
    for (const auto& sources : axis_)
      for (const Source& s : sources)
        if (s.weight * steps != std::floor(s.weight * steps)) return false;
    return true;
  }

  InterpolateGeometry g_;

 private:
  std::vector<Source> axis_[3];
  int64_t image_, rows_;
};

template <class T>
class NearestWork final : public InterpolateWork {
 public:
  using InterpolateWork::InterpolateWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_pixel(static_cast<const T*>(in[0]), static_cast<T*>(out[0]), tid, threads,
                   [&](const T* x, const Source& d, const Source& h, const Source& w, T* y) {
                     std::memcpy(y, x + d.low + h.low + w.low, static_cast<size_t>(g_.channels) * sizeof(T));
                   });
  }
  std::string details() const override { return sizeof(T) == 1 ? "nearest_u8" : "nearest_f32"; }
};

double lerp(double a, double b, double t) {
  return a * (1.0 - t) + b * t;
}

class FloatLinearWork final : public InterpolateWork {
 public:
  using InterpolateWork::InterpolateWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_pixel(static_cast<const float*>(in[0]), static_cast<float*>(out[0]), tid, threads,
                   [&](const float* x, const Source& d, const Source& h, const Source& w, float* y) {
                     const auto row = [&](int64_t at, int64_t c) {
                       return lerp(static_cast<double>(x[at + w.low + c]), static_cast<double>(x[at + w.high + c]),
                                   w.weight);
                     };
                     const auto plane = [&](int64_t at, int64_t c) {
                       return lerp(row(at + h.low, c), row(at + h.high, c), h.weight);
                     };
                     if (g_.in[0] == 1) {
                       for (int64_t c = 0; c < g_.channels; ++c) y[c] = static_cast<float>(plane(0, c));
                     } else {
                       for (int64_t c = 0; c < g_.channels; ++c)
                         y[c] = static_cast<float>(lerp(plane(d.low, c), plane(d.high, c), d.weight));
                     }
                   });
  }
  std::string details() const override { return "linear_f32"; }
};

class LinearWork final : public InterpolateWork {
 public:
  LinearWork(const InterpolateGeometry& g, int32_t zero_point, Isa isa) : InterpolateWork(g), zero_point_(zero_point) {
    const auto exact = select<LinearExact>(isa);
    const auto general = select<Linear>(isa);
    // 9 bits of a code and 5 bits of a weight an axis: 24 bits, the precision of float32.
    const bool is_exact = weights_divide(32.0);
    run_ = is_exact ? exact.run : general.run;
    name_ = is_exact ? exact.name : general.name;
  }

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_pixel(static_cast<const uint8_t*>(in[0]), static_cast<uint8_t*>(out[0]), tid, threads,
                   [&](const uint8_t* x, const Source& d, const Source& h, const Source& w, uint8_t* y) {
                     const int64_t offset[3][2] = {{d.low, d.high}, {h.low, h.high}, {w.low, w.high}};
                     Corners corners{{}, {d.weight, h.weight, w.weight}};
                     for (int i = 0; i < 8; ++i)
                       corners.at[i >> 2][i >> 1 & 1][i & 1] =
                           x + offset[0][i >> 2] + offset[1][i >> 1 & 1] + offset[2][i & 1];
                     run_(corners, g_.channels, zero_point_, y);
                   });
  }
  std::vector<const char*> kernels() const override { return {name_}; }

 private:
  int32_t zero_point_;
  Linear::Fn* run_;
  const char* name_;
};

void check(const InterpolateGeometry& geometry) {
  if (geometry.n < 0 || geometry.channels < 0) throw std::invalid_argument("a negative dimension");
  for (int d = 0; d < 3; ++d) {
    if (geometry.in[d] < 1 || geometry.out[d] < 0) throw std::invalid_argument("interpolation of an empty dimension");
    if (!(geometry.scale[d] >= 0.0 && std::isfinite(geometry.scale[d])))
      throw std::invalid_argument("an interpolation scale that is negative or not finite");
  }
}

}  // namespace

std::unique_ptr<Work> plan_interpolate(const InterpolateGeometry& geometry, int32_t zero_point, Isa isa) {
  check(geometry);
  if (zero_point < 0 || zero_point > 255) throw std::invalid_argument("a zero point outside 0..255");
  if (!geometry.linear) return std::make_unique<NearestWork<uint8_t>>(geometry);
  return std::make_unique<LinearWork>(geometry, zero_point, isa);
}

std::unique_ptr<Work> plan_interpolate_f32(const InterpolateGeometry& geometry) {
  check(geometry);
  if (!geometry.linear) return std::make_unique<NearestWork<float>>(geometry);
  return std::make_unique<FloatLinearWork>(geometry);
}

}  // namespace qfx
