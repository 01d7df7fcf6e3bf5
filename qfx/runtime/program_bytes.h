#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "runtime/program.h"

namespace qfx {

// A program as bytes, all numbers little-endian: a head of 64 bytes, the tables, and the contents of the constants in
// their order. Contents begin at multiples of 64, and kReadSlack zeros end the whole. A program has one form.
//
// The tables are read and written by one description of their fields (program_bytes.cc). FlatBuffers was tried and
// left: its compiler is on PyPI for x86-64 only, as a pre-release, and qfx builds on ARM with the same two commands.

// Throws ProgramError on a machine that is not little-endian.
std::string to_bytes(const Program& program);

// The program of `bytes`, every part of it checked: as safe with bytes from anywhere as ProgramBuilder is with calls.
// Constants are used where they lie if `bytes` begin at a multiple of 64, and `owner` is kept as long; else they are
// copied once. Throws ProgramError, with the step or value where it is known.
std::shared_ptr<const Program> program_of(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

}  // namespace qfx
