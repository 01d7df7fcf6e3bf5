// qfx.h for C++20: handles that close themselves, exceptions, spans. Everything here is inline; the library is C's.
//
//   qfx::Model model("m.qfx");
//   qfx::Results scores = model.run({qfx::tensor(pixels, {1, 3, 224, 224})});
//   std::span<const float> best = scores.values<float>(0);
#ifndef QFX_HPP
#define QFX_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "qfx.h"

namespace qfx {

// What a call of qfx.h that failed says.
class Error : public std::runtime_error {
 public:
  Error(qfx_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  qfx_status status() const noexcept { return status_; }

 private:
  qfx_status status_;
};

inline void require(qfx_status status) {
  if (status != QFX_OK) throw Error(status, qfx_error());
}

// The dtype of elements of type T.
template <class T>
constexpr qfx_dtype dtype_of() noexcept {
  using Element = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<Element, bool>) return QFX_BOOL;
  if constexpr (std::is_same_v<Element, float>) return QFX_FLOAT32;
  if constexpr (std::is_same_v<Element, uint8_t>) return QFX_UINT8;
  if constexpr (std::is_same_v<Element, int8_t>) return QFX_INT8;
  if constexpr (std::is_same_v<Element, int32_t>) return QFX_INT32;
  if constexpr (std::is_same_v<Element, int64_t>) return QFX_INT64;
}

using Sizes = std::vector<int64_t>;

// An array that somebody else keeps. strides: elements from one to the next of each dim; none: dense.
struct Tensor {
  const void* data = nullptr;
  qfx_dtype dtype = QFX_FLOAT32;
  Sizes sizes, strides;

  qfx_tensor c() const noexcept {
    return {data, dtype, static_cast<int32_t>(sizes.size()), sizes.data(), strides.empty() ? nullptr : strides.data()};
  }
};

template <class T>
Tensor tensor(const T* data, Sizes sizes, Sizes strides = {}) {
  return {data, dtype_of<T>(), std::move(sizes), std::move(strides)};
}

// Throws std::invalid_argument unless the sizes have as many elements as there are.
template <class T>
Tensor tensor(const std::vector<T>& elements, Sizes sizes) {
  int64_t count = 1;
  for (const int64_t s : sizes) count *= s;
  if (count != static_cast<int64_t>(elements.size())) {
    throw std::invalid_argument("The sizes have " + std::to_string(count) + " elements, and there are " +
                                std::to_string(elements.size()) + ".");
  }
  return tensor(elements.data(), std::move(sizes));
}

// What an input or output is; sizes that calls choose are -1, and have names.
struct Value {
  std::string name;
  qfx_dtype dtype;
  Sizes sizes;
  std::vector<std::string> size_names;

  explicit Value(const qfx_value& v) : name(v.name), dtype(v.dtype), sizes(v.sizes, v.sizes + v.rank) {
    for (int32_t d = 0; d < v.rank; ++d) size_names.emplace_back(v.size_names[d] == nullptr ? "" : v.size_names[d]);
  }
};

// The outputs of a call.
class Results {
 public:
  explicit Results(qfx_results* made) : made_(made) {}

  const qfx_tensor& operator[](size_t output) const {
    const qfx_tensor* found = qfx_result(made_.get(), output);
    if (found == nullptr) throw std::out_of_range("There is no output " + std::to_string(output) + ".");
    return *found;
  }
  std::span<const int64_t> sizes(size_t output) const {
    const qfx_tensor& t = (*this)[output];
    return {t.sizes, static_cast<size_t>(t.rank)};
  }
  // Throws std::invalid_argument if T is not its dtype.
  template <class T>
  std::span<const T> values(size_t output) const {
    const qfx_tensor& t = (*this)[output];
    if (t.dtype != dtype_of<T>()) {
      throw std::invalid_argument("Output " + std::to_string(output) + " is of " + qfx_dtype_name(t.dtype) + ".");
    }
    size_t count = 1;
    for (const int64_t s : sizes(output)) count *= static_cast<size_t>(s);
    return {static_cast<const T*>(t.data), count};
  }

 private:
  struct Free {
    void operator()(qfx_results* results) const noexcept { qfx_results_free(results); }
  };
  std::unique_ptr<qfx_results, Free> made_;
};

// Memory that an output is written to.
template <class T>
qfx_buffer buffer(std::span<T> memory) noexcept {
  return {memory.data(), memory.size_bytes()};
}

// A model of a .qfx file. Its functions throw Error; all but its destructor may be called from many threads at once.
class Model {
 public:
  explicit Model(const std::string& path, const qfx_options& options = QFX_OPTIONS) {
    qfx_model* opened = nullptr;
    require(qfx_open(path.c_str(), &options, &opened));
    model_.reset(opened);
  }
  // The bytes stay as they are while the model is there.
  explicit Model(std::span<const std::byte> file, const qfx_options& options = QFX_OPTIONS) {
    qfx_model* opened = nullptr;
    require(qfx_open_memory(file.data(), file.size(), &options, &opened));
    model_.reset(opened);
  }

  std::vector<Value> inputs() const { return described(qfx_input_count(c()), qfx_input); }
  std::vector<Value> outputs() const { return described(qfx_output_count(c()), qfx_output); }
  std::string metadata() const { return qfx_metadata(c()); }    // JSON
  std::string structure() const { return qfx_structure(c()); }  // JSON
  std::string isa() const { return qfx_isa(c()); }
  int32_t threads() const noexcept { return qfx_threads(c()); }
  void set_threads(int32_t threads) { require(qfx_set_threads(c(), threads)); }

  Sizes output_sizes(const std::vector<Tensor>& inputs, size_t output) const {
    const std::vector<qfx_tensor> in = as_c(inputs);
    const qfx_value* value = qfx_output(c(), output);
    Sizes sizes(value == nullptr ? 0 : static_cast<size_t>(value->rank));
    require(qfx_output_sizes(c(), in.data(), in.size(), output, sizes.data()));
    return sizes;
  }
  Results run(const std::vector<Tensor>& inputs) const {
    const std::vector<qfx_tensor> in = as_c(inputs);
    qfx_results* made = nullptr;
    require(qfx_run_new(c(), in.data(), in.size(), &made));
    return Results(made);
  }
  void run(const std::vector<Tensor>& inputs, const std::vector<qfx_buffer>& outputs) const {
    const std::vector<qfx_tensor> in = as_c(inputs);
    require(qfx_run(c(), in.data(), in.size(), outputs.data(), outputs.size()));
  }

  // For functions of qfx.h.
  qfx_model* c() const noexcept { return model_.get(); }

 private:
  std::vector<Value> described(size_t count, const qfx_value* (*find)(const qfx_model*, size_t)) const {
    std::vector<Value> found;
    found.reserve(count);
    for (size_t i = 0; i < count; ++i) found.emplace_back(*find(c(), i));
    return found;
  }
  static std::vector<qfx_tensor> as_c(const std::vector<Tensor>& tensors) {
    std::vector<qfx_tensor> made;
    for (const Tensor& t : tensors) {
      if (!t.strides.empty() && t.strides.size() != t.sizes.size()) {
        throw std::invalid_argument("A tensor has as many strides as sizes, or none.");
      }
      made.push_back(t.c());
    }
    return made;
  }

  struct Close {
    void operator()(qfx_model* model) const noexcept { qfx_close(model); }
  };
  std::unique_ptr<qfx_model, Close> model_;
};

}  // namespace qfx

#endif  // QFX_HPP
