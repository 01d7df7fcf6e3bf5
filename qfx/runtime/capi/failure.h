#pragma once
#include <stdexcept>
#include <string>

#include "runtime/capi/qfx.h"

namespace qfx::capi {

// A call that qfx.h forbids.
class ArgumentError : public std::invalid_argument {
 public:
  ArgumentError(const std::string& what, std::string remedy)
      : std::invalid_argument(what), remedy_(std::move(remedy)) {}
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  std::string remedy_;
};

// What this thread's last failure says.
const char* last_failure() noexcept;

// Remembers the exception that is being handled: what, why, what to do.
qfx_status remember_failure() noexcept;

// Runs it; what it throws becomes a status.
template <class Function>
qfx_status guarded(Function&& function) noexcept {
  try {
    function();
    return QFX_OK;
  } catch (...) {
    return remember_failure();
  }
}

}  // namespace qfx::capi
