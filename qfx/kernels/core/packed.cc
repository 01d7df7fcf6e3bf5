#include "core/packed.h"

namespace qfx {

PackingStore*& packing_store() noexcept {
  thread_local PackingStore* store = nullptr;
  return store;
}

}  // namespace qfx
