#pragma once
#include <span>
#include <string>

namespace qfx {

// Instruction set levels: the lines of isa.inc, those of one architecture from the weakest up. Not each one holds all
// that stand before it: see includes().
enum class Isa : int {
#define QFX_ISA(name, architecture, parent, features, flags, model) name,
#include "core/isa.inc"
};

const char* isa_name(Isa isa) noexcept;

// Every level, those of other architectures too.
std::span<const Isa> every_isa() noexcept;

// The level on whose CPUs the tests run the kernels of `isa` as models; scalar: none.
Isa isa_of_model(Isa isa) noexcept;

// The levels of the architecture this was built for, the portable reference first.
std::span<const Isa> isa_levels() noexcept;

// Whether a kernel written for `isa` runs wherever `level` does.
bool includes(Isa level, Isa isa) noexcept;

// Whether this CPU has `level` and its operating system lets this process use it (for amx the first call asks Linux
// to).
bool supported(Isa level) noexcept;

// What `level` lacks here, as a clause that names the features; empty where it is supported.
std::string why_unsupported(Isa level);

// The last of isa_levels() that is supported.
Isa detect_isa() noexcept;

// The level of that name. Throws std::invalid_argument for a name that is unknown, of another architecture, or of a
// level that is not supported here.
Isa parse_isa(const std::string& name);

// detect_isa(), or what the environment variable QFX_ISA names. Throws as parse_isa.
Isa selected_isa();

// Vendor, brand and the feature bits that were found, for reports.
std::string cpu_description();

}  // namespace qfx
