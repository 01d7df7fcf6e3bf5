// The kernels of one family, declared where this is included: inside the family's namespace, after its kinds, with
// QFX_KERNEL_LIST naming its kernels.inc. Included once a family, so it has no guard.
#define QFX_KERNEL(kind, name, isa) kind::Fn name;
#include QFX_KERNEL_LIST
#undef QFX_KERNEL

// The first kernel of the kind in kernels.inc that `isa` can run.
template <class Kind>
Kernel<Kind> select(Isa isa) noexcept {
#define QFX_KERNEL(kind, name, level)                                \
  if constexpr (std::is_same_v<Kind, kind>) {                        \
    if (includes(isa, Isa::level)) return {name, #name, Isa::level}; \
  }
#include QFX_KERNEL_LIST
#undef QFX_KERNEL
  return {};
}
#undef QFX_KERNEL_LIST
