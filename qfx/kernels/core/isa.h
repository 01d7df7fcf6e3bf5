#pragma once
#include <string>

namespace qfx {

// Ordered from the portable reference upwards; a level implies all the levels below it.
enum class Isa : int { scalar = 0, avx2 = 1, avx512vnni = 2 };

const char* isa_name(Isa isa) noexcept;

// The highest level that this CPU and its operating system support.
Isa detect_isa() noexcept;

// detect_isa(), lowered by the environment variable QFX_ISA when it is set.
// Throws std::invalid_argument for a name that is unknown or a level this CPU lacks.
Isa selected_isa();

// Vendor, brand and the feature bits that were found, for reports.
std::string cpu_description();

}  // namespace qfx
