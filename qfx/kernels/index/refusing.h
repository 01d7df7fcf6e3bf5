#pragma once
#include <cstddef>
#include <cstring>

#include "core/work.h"

namespace qfx {

// Work whose run() says in its scratch whether an index was outside.
class Refusing : public Work {
 public:
  size_t scratch_bytes() const noexcept final { return sizeof(bool); }

  bool refused(const std::byte* scratch) const noexcept final {
    bool outside;
    std::memcpy(&outside, scratch, sizeof outside);
    return outside;
  }

 protected:
  static void say(std::byte* scratch, bool outside) noexcept { std::memcpy(scratch, &outside, sizeof outside); }
};

}  // namespace qfx
