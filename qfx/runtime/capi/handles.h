#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/capi/qfx.h"
#include "runtime/serving/model.h"

// What the pointers of qfx.h point at.
namespace qfx::capi {

// Inputs or outputs as C has them; the texts are the signature's.
class Values {
 public:
  template <class Described>
  explicit Values(const std::vector<Described>& described) {
    for (const Described& d : described) add(d.name, d.dtype, d.shape);
  }

  size_t count() const noexcept { return values_.size(); }
  const qfx_value* find(size_t index) const noexcept { return index < count() ? &values_[index] : nullptr; }

 private:
  void add(const std::string& name, DType dtype, const std::vector<NamedSize>& shape);

  std::vector<qfx_value> values_;
  std::deque<std::vector<int64_t>> sizes_;  // deques: what is pointed at stays where it is
  std::deque<std::vector<const char*>> names_;
};

}  // namespace qfx::capi

struct qfx_model {
  std::unique_ptr<qfx::Model> model;
  std::atomic<int32_t> threads;
  qfx::capi::Values inputs, outputs;

  qfx_model(std::unique_ptr<qfx::Model> opened, int32_t most)
      : model(std::move(opened)),
        threads(most),
        inputs(model->signature().inputs),
        outputs(model->signature().outputs) {}
};

struct qfx_results {
  std::vector<qfx::AlignedBuffer> memory;
  std::vector<qfx::Dims> sizes;
  std::vector<qfx_tensor> tensors;
};
