// The functions of qfx.h about models: opening them, and what they say of themselves.
#include <iterator>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/isa.h"
#include "runtime/capi/failure.h"
#include "runtime/capi/handles.h"
#include "runtime/capi/qfx.h"
#include "runtime/serving/mapped_file.h"
#include "runtime/serving/model.h"

namespace qfx::capi {

void Values::add(const std::string& name, DType dtype, const std::vector<NamedSize>& shape) {
  auto& sizes = sizes_.emplace_back();
  auto& names = names_.emplace_back();
  for (const NamedSize& s : shape) {
    sizes.push_back(s.size);
    names.push_back(s.size < 0 ? s.name.c_str() : nullptr);
  }
  const auto kind = static_cast<qfx_dtype>(dtype);
  values_.push_back({name.c_str(), kind, static_cast<int32_t>(shape.size()), sizes.data(), names.data()});
}

namespace {

// qfx.h numbers dtypes as the runtime does.
static_assert(static_cast<int>(DType::u8) == QFX_UINT8 && static_cast<int>(DType::s8) == QFX_INT8);
static_assert(static_cast<int>(DType::s32) == QFX_INT32 && static_cast<int>(DType::s64) == QFX_INT64);
static_assert(static_cast<int>(DType::f32) == QFX_FLOAT32 && static_cast<int>(DType::f16) == QFX_FLOAT16);
static_assert(static_cast<int>(DType::bf16) == QFX_BFLOAT16 && static_cast<int>(DType::boolean) == QFX_BOOL);

// The row of a dtype that elements of arrays can have, or nullptr.
const DTypeRow* row_of(qfx_dtype dtype) noexcept {
  const auto number = static_cast<size_t>(dtype);
  return number < std::size(kDTypes) && is_whole_bytes(kDTypes[number].dtype) ? &kDTypes[number] : nullptr;
}

void require(bool is_given, const char* what) {
  if (!is_given) throw ArgumentError(std::string(what) + " is NULL.", "Give a pointer.");
}

void require_threads(int32_t threads) {
  if (threads >= 0) return;
  throw ArgumentError(std::to_string(threads) + " is no number of threads.",
                      "Give 1 or more, or 0 for as many as physical cores.");
}

qfx_options checked(const qfx_options* given) {
  if (given == nullptr) return QFX_OPTIONS;
  if (given->size != sizeof(qfx_options)) {
    throw ArgumentError("The options have size " + std::to_string(given->size) + ", and this qfx knows such of " +
                            std::to_string(sizeof(qfx_options)) + ".",
                        "Begin with qfx_options options = QFX_OPTIONS, and use the library that the header is of.");
  }
  require_threads(given->threads);
  return *given;
}

Isa isa_of(const char* name) {
  try {
    return name == nullptr || *name == '\0' ? selected_isa() : parse_isa(name);
  } catch (const std::invalid_argument& error) {
    throw ArgumentError("There is no such instruction set here: " + std::string(error.what()) + ".",
                        "Name one of these, or none.");
  }
}

Model::Limits limits_of(const qfx_options& options) {
  Model::Limits limits;
  if (options.max_memory > 0) limits.memory = options.max_memory;
  if (options.max_products > 0) limits.products = options.max_products;
  return limits;
}

std::unique_ptr<qfx_model> opened_path(const std::string& path, const qfx_options* given) {
  const qfx_options options = checked(given);
  auto file = std::make_shared<const MappedFile>(path);
  auto model = std::make_unique<Model>(std::move(file), isa_of(options.isa), limits_of(options));
  return std::make_unique<qfx_model>(std::move(model), options.threads);
}

std::unique_ptr<qfx_model> opened_bytes(std::span<const std::byte> bytes, const qfx_options* given) {
  const qfx_options options = checked(given);
  const std::shared_ptr<const void> owner(bytes.data(), [](const void*) {});  // the caller
  auto model = std::make_unique<Model>(bytes, owner, "The file", isa_of(options.isa), limits_of(options));
  return std::make_unique<qfx_model>(std::move(model), options.threads);
}

}  // namespace
}  // namespace qfx::capi

using namespace qfx::capi;

extern "C" {

int32_t qfx_version(void) {
  return QFX_VERSION;
}

const char* qfx_version_text(void) {
#define QFX_TEXT(number) #number
#define QFX_DOTTED(major, minor, patch) QFX_TEXT(major) "." QFX_TEXT(minor) "." QFX_TEXT(patch)
  return QFX_DOTTED(QFX_VERSION_MAJOR, QFX_VERSION_MINOR, QFX_VERSION_PATCH);
#undef QFX_DOTTED
#undef QFX_TEXT
}

const char* qfx_error(void) {
  return last_failure();
}

qfx_status qfx_open(const char* path, const qfx_options* options, qfx_model** model) {
  if (model != nullptr) *model = nullptr;
  return guarded([&] {
    require(path != nullptr, "path");
    require(model != nullptr, "model");
    *model = opened_path(path, options).release();
  });
}

qfx_status qfx_open_memory(const void* bytes, size_t size, const qfx_options* options, qfx_model** model) {
  if (model != nullptr) *model = nullptr;
  return guarded([&] {
    require(bytes != nullptr || size == 0, "bytes");
    require(model != nullptr, "model");
    *model = opened_bytes({static_cast<const std::byte*>(bytes), size}, options).release();
  });
}

void qfx_close(qfx_model* model) {
  delete model;
}

qfx_status qfx_set_threads(qfx_model* model, int32_t threads) {
  return guarded([&] {
    require(model != nullptr, "model");
    require_threads(threads);
    model->threads.store(threads);
  });
}

int32_t qfx_threads(const qfx_model* model) {
  return model == nullptr ? 0 : model->threads.load();
}

const char* qfx_isa(const qfx_model* model) {
  return model == nullptr ? nullptr : qfx::isa_name(model->model->isa());
}

const char* qfx_metadata(const qfx_model* model) {
  return model == nullptr ? nullptr : model->model->signature().metadata.c_str();
}

const char* qfx_structure(const qfx_model* model) {
  return model == nullptr ? nullptr : model->model->signature().structure.c_str();
}

const char* qfx_dtype_name(qfx_dtype dtype) {
  const qfx::DTypeRow* row = row_of(dtype);
  return row == nullptr ? nullptr : row->torch;
}

size_t qfx_dtype_size(qfx_dtype dtype) {
  const qfx::DTypeRow* row = row_of(dtype);
  return row == nullptr ? 0 : static_cast<size_t>(row->bits) / 8;
}

size_t qfx_input_count(const qfx_model* model) {
  return model == nullptr ? 0 : model->inputs.count();
}

size_t qfx_output_count(const qfx_model* model) {
  return model == nullptr ? 0 : model->outputs.count();
}

const qfx_value* qfx_input(const qfx_model* model, size_t index) {
  return model == nullptr ? nullptr : model->inputs.find(index);
}

const qfx_value* qfx_output(const qfx_model* model, size_t index) {
  return model == nullptr ? nullptr : model->outputs.find(index);
}

}  // extern "C"
