#include "index/whole.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "core/nest.h"
#include "core/split.h"

namespace qfx {
namespace {

// ---------------------------------------------------------------- types

// body(T()) of the type of an element.
template <class Body>
std::unique_ptr<Work> with_type(Element type, Body&& body) {
  if (type == Element::f32) return body(float());
  if (type == Element::s32) return body(int32_t());
  if (type == Element::s64) return body(int64_t());
  if (type == Element::boolean) return body(bool());
  throw std::invalid_argument("an unknown type");
}

template <class To, class From>
To converted(From x) noexcept {
  if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr From kEnd = -static_cast<From>(std::numeric_limits<To>::min());
    if (std::isnan(x)) return 0;
    if (x >= kEnd) return std::numeric_limits<To>::max();
    return x < -kEnd ? std::numeric_limits<To>::min() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <class From, class To>
class CastWork final : public Work {
 public:
  explicit CastWork(int64_t count) : count_(count) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads, 16);
    const auto* x = static_cast<const From*>(in[0]);
    auto* y = static_cast<To*>(out[0]);
    for (int64_t i = part.begin; i < part.end; ++i) y[i] = converted<To>(x[i]);
  }

  int64_t cost() const noexcept override { return count_ * static_cast<int64_t>(sizeof(From) + sizeof(To)); }

 private:
  int64_t count_;
};

// ---------------------------------------------------------------- operands that broadcast

// The nest of K operands, the innermost loop apart.
template <int K>
class Broadcast {
 public:
  explicit Broadcast(const std::vector<int64_t> (&shapes)[K]) : Broadcast(nest_of(shapes)) {}

  // body(offsets of the operands, their strides, place in the result, elements) of a part of the rows.
  template <class Body>
  void run(int tid, int threads, Body&& body) const noexcept {
    for_each_row(split(count(), tid, threads, 16), outer_, row_.size,
                 [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
                   int64_t at[K];
                   for (int k = 0; k < K; ++k) at[k] = offset[k] + column * row_.stride[k];
                   body(at, row_.stride, row * row_.size + column, n);
                 });
  }

  int64_t count() const noexcept { return outer_.count() * row_.size; }

 private:
  explicit Broadcast(Nest<K> nest) : row_(nest.pop()), outer_(nest) {}

  static Nest<K> nest_of(const std::vector<int64_t> (&shapes)[K]) {
    const size_t rank = shapes[0].size();
    std::vector<int64_t> shape(rank, 1);
    std::vector<int64_t> strides[K];
    for (int k = 0; k < K; ++k) {
      if (shapes[k].size() != rank) throw std::invalid_argument("operands of different rank");
      for (size_t d = 0; d < rank; ++d) {
        const int64_t size = shapes[k][d];
        if (size == 1) continue;
        if (shape[d] != 1 && shape[d] != size) throw std::invalid_argument("shapes that do not broadcast");
        shape[d] = size;
      }
    }
    for (int k = 0; k < K; ++k) {
      strides[k] = dense_strides(shapes[k]);
      for (size_t d = 0; d < rank; ++d) strides[k][d] = shapes[k][d] == 1 ? 0 : strides[k][d];
    }
    element_count(shape);
    return collapse(shape, strides);
  }

  typename Nest<K>::Loop row_;
  Nest<K> outer_;
};

template <class T>
struct Add {
  using Unsigned = std::make_unsigned_t<T>;
  static T of(T a, T b) noexcept { return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b)); }
};
template <class T>
struct Sub {
  using Unsigned = std::make_unsigned_t<T>;
  static T of(T a, T b) noexcept { return static_cast<T>(static_cast<Unsigned>(a) - static_cast<Unsigned>(b)); }
};
template <class T>
struct Mul {
  using Unsigned = std::make_unsigned_t<T>;
  static T of(T a, T b) noexcept { return static_cast<T>(static_cast<Unsigned>(a) * static_cast<Unsigned>(b)); }
};
template <class T>
struct Minimum {
  static T of(T a, T b) noexcept { return b < a ? b : a; }
};
template <class T>
struct Maximum {
  static T of(T a, T b) noexcept { return a < b ? b : a; }
};
template <class T>
struct And {
  static T of(T a, T b) noexcept { return static_cast<T>(a & b); }
};
template <class T>
struct Or {
  static T of(T a, T b) noexcept { return static_cast<T>(a | b); }
};
template <class T>
struct Xor {
  static T of(T a, T b) noexcept { return static_cast<T>(a ^ b); }
};
template <class T>
struct Eq {
  static bool of(T a, T b) noexcept { return a == b; }
};
template <class T>
struct Ne {
  static bool of(T a, T b) noexcept { return a != b; }
};
template <class T>
struct Lt {
  static bool of(T a, T b) noexcept { return a < b; }
};
template <class T>
struct Le {
  static bool of(T a, T b) noexcept { return a <= b; }
};
template <class T>
struct Gt {
  static bool of(T a, T b) noexcept { return a > b; }
};
template <class T>
struct Ge {
  static bool of(T a, T b) noexcept { return a >= b; }
};

template <class T, template <class> class Function>
class PairwiseWork final : public Work {
 public:
  explicit PairwiseWork(const Broadcast<2>& rows) : rows_(rows) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    using Y = decltype(Function<T>::of(T(), T()));
    rows_.run(tid, threads, [&](const int64_t* at, const int64_t* stride, int64_t place, int64_t n) {
      const T* a = static_cast<const T*>(in[0]) + at[0];
      const T* b = static_cast<const T*>(in[1]) + at[1];
      Y* y = static_cast<Y*>(out[0]) + place;
      for (int64_t i = 0; i < n; ++i) y[i] = Function<T>::of(a[i * stride[0]], b[i * stride[1]]);
    });
  }

  int64_t cost() const noexcept override { return 3 * static_cast<int64_t>(sizeof(T)) * rows_.count(); }

 private:
  Broadcast<2> rows_;
};

template <class T>
std::unique_ptr<Work> comparison(const std::string& name, const Broadcast<2>& rows) {
  if (name == "eq") return std::make_unique<PairwiseWork<T, Eq>>(rows);
  if (name == "ne") return std::make_unique<PairwiseWork<T, Ne>>(rows);
  if (name == "lt") return std::make_unique<PairwiseWork<T, Lt>>(rows);
  if (name == "le") return std::make_unique<PairwiseWork<T, Le>>(rows);
  if (name == "gt") return std::make_unique<PairwiseWork<T, Gt>>(rows);
  if (name == "ge") return std::make_unique<PairwiseWork<T, Ge>>(rows);
  return nullptr;
}

template <class T>
std::unique_ptr<Work> bitwise(const std::string& name, const Broadcast<2>& rows) {
  if (name == "and") return std::make_unique<PairwiseWork<T, And>>(rows);
  if (name == "or") return std::make_unique<PairwiseWork<T, Or>>(rows);
  if (name == "xor") return std::make_unique<PairwiseWork<T, Xor>>(rows);
  return nullptr;
}

template <class T>
std::unique_ptr<Work> arithmetic(const std::string& name, const Broadcast<2>& rows) {
  if (name == "add") return std::make_unique<PairwiseWork<T, Add>>(rows);
  if (name == "sub") return std::make_unique<PairwiseWork<T, Sub>>(rows);
  if (name == "mul") return std::make_unique<PairwiseWork<T, Mul>>(rows);
  if (name == "minimum") return std::make_unique<PairwiseWork<T, Minimum>>(rows);
  if (name == "maximum") return std::make_unique<PairwiseWork<T, Maximum>>(rows);
  return nullptr;
}

template <class T>
std::unique_ptr<Work> pairwise(const std::string& name, const Broadcast<2>& rows) {
  std::unique_ptr<Work> made = comparison<T>(name, rows);
  if constexpr (std::is_integral_v<T>) {
    if (made == nullptr) made = bitwise<T>(name, rows);
  }
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    if (made == nullptr) made = arithmetic<T>(name, rows);
  }
  if (made == nullptr) throw std::invalid_argument("no function '" + name + "' of elements of this type");
  return made;
}

template <class T>
class WhereWork final : public Work {
 public:
  explicit WhereWork(const Broadcast<3>& rows) : rows_(rows) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    rows_.run(tid, threads, [&](const int64_t* at, const int64_t* stride, int64_t place, int64_t n) {
      const bool* holds = static_cast<const bool*>(in[0]) + at[0];
      const T* a = static_cast<const T*>(in[1]) + at[1];
      const T* b = static_cast<const T*>(in[2]) + at[2];
      T* y = static_cast<T*>(out[0]) + place;
      for (int64_t i = 0; i < n; ++i) y[i] = holds[i * stride[0]] ? a[i * stride[1]] : b[i * stride[2]];
    });
  }

  int64_t cost() const noexcept override { return (3 * static_cast<int64_t>(sizeof(T)) + 1) * rows_.count(); }

 private:
  Broadcast<3> rows_;
};

// ---------------------------------------------------------------- along an axis

class ArangeWork final : public Work {
 public:
  ArangeWork(int64_t count, int64_t step) : count_(count), step_(step) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads);
    const int64_t first = *static_cast<const int64_t*>(in[0]);
    auto* y = static_cast<int64_t*>(out[0]);
    for (int64_t i = part.begin; i < part.end; ++i) y[i] = Add<int64_t>::of(first, Mul<int64_t>::of(i, step_));
  }

  int64_t cost() const noexcept override { return 8 * count_; }

 private:
  int64_t count_, step_;
};

// Columns of [outer, n, inner]: each column of `inner` is on its own.
class ColumnsWork : public Work {
 public:
  ColumnsWork(int64_t outer, int64_t n, int64_t inner) : columns_(outer * inner), n_(n), inner_(inner) {}
  int64_t cost() const noexcept override { return 16 * columns_ * n_; }

 protected:
  // body(number of the column, offset of its first element) of a part of the columns.
  template <class Body>
  void for_each_column(int tid, int threads, Body&& body) const noexcept {
    const Range part = split(columns_, tid, threads);
    for (int64_t c = part.begin; c < part.end; ++c) body(c, c / inner_ * n_ * inner_ + c % inner_);
  }

  int64_t columns_, n_, inner_;
};

class CumsumWork final : public ColumnsWork {
 public:
  using ColumnsWork::ColumnsWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_column(tid, threads, [&](int64_t, int64_t first) {
      const int64_t* x = static_cast<const int64_t*>(in[0]) + first;
      int64_t* y = static_cast<int64_t*>(out[0]) + first;
      int64_t sum = 0;
      for (int64_t i = 0; i < n_; ++i) y[i * inner_] = sum = Add<int64_t>::of(sum, x[i * inner_]);
    });
  }
};

template <class T>
class ArgmaxWork final : public ColumnsWork {
 public:
  using ColumnsWork::ColumnsWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_column(tid, threads, [&](int64_t column, int64_t first) {
      const T* x = static_cast<const T*>(in[0]) + first;
      int64_t best = 0;
      for (int64_t i = 1; i < n_; ++i) {
        if (is_more(x[i * inner_], x[best * inner_])) best = i;
      }
      static_cast<int64_t*>(out[0])[column] = best;
    });
  }

 private:
  static bool is_more(T a, T b) noexcept { return a > b || (a != a && b == b); }  // NOLINT(misc-redundant-expression)
};

}  // namespace

std::unique_ptr<Work> plan_cast(Element from, Element to, int64_t count) {
  return with_type(from, [&](auto x) {
    return with_type(to, [&](auto y) -> std::unique_ptr<Work> {
      return std::make_unique<CastWork<decltype(x), decltype(y)>>(count);
    });
  });
}

bool is_comparison(const std::string& function) noexcept {
  constexpr const char* names[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  return std::ranges::any_of(names, [&](const char* name) { return function == name; });
}

std::unique_ptr<Work> plan_pairwise(const std::string& function, Element type, const std::vector<int64_t>& a,
                                    const std::vector<int64_t>& b) {
  const Broadcast<2> rows({a, b});
  return with_type(type, [&](auto x) { return pairwise<decltype(x)>(function, rows); });
}

std::unique_ptr<Work> plan_where(int64_t element, const std::vector<int64_t>& condition, const std::vector<int64_t>& a,
                                 const std::vector<int64_t>& b) {
  const Broadcast<3> rows({condition, a, b});
  if (element == 1) return std::make_unique<WhereWork<uint8_t>>(rows);
  if (element == 4) return std::make_unique<WhereWork<uint32_t>>(rows);
  if (element == 8) return std::make_unique<WhereWork<uint64_t>>(rows);
  throw std::invalid_argument("elements that are not of 1, 4 or 8 bytes");
}

std::unique_ptr<Work> plan_arange(int64_t count, int64_t step) {
  return std::make_unique<ArangeWork>(count, step);
}

std::unique_ptr<Work> plan_cumsum(int64_t outer, int64_t n, int64_t inner) {
  return std::make_unique<CumsumWork>(outer, n, inner);
}

std::unique_ptr<Work> plan_argmax(Element type, int64_t outer, int64_t n, int64_t inner) {
  if (n == 0) throw std::invalid_argument("no element is the largest of none");
  if (type == Element::f32) return std::make_unique<ArgmaxWork<float>>(outer, n, inner);
  return std::make_unique<ArgmaxWork<int64_t>>(outer, n, inner);
}

}  // namespace qfx
