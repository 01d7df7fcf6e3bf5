#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace qfx {

// A program that is malformed, or that cannot be loaded here. `where` names the step or value.
class ProgramError : public std::runtime_error {
 public:
  ProgramError(std::string where, const std::string& what) : std::runtime_error(what), where_(std::move(where)) {}
  const std::string& where() const noexcept { return where_; }

 private:
  std::string where_;
};

// A well-formed program met inputs that it cannot take: number, dtype, rank, or shapes that do not fit.
class InputError : public std::runtime_error {
 public:
  InputError(std::string where, const std::string& what) : std::runtime_error(what), where_(std::move(where)) {}
  const std::string& where() const noexcept { return where_; }

 private:
  std::string where_;
};

// Values that a step can't take: an index that a table has no row for.
class InputValuesError : public InputError {
 public:
  using InputError::InputError;
};

// Such sizes as make a product whose sums s32 may not hold.
class InputSumsError : public InputError {
 public:
  using InputError::InputError;
};

// A call, or loading, that takes more than the limits which the caller gave.
class LimitError : public InputError {
 public:
  using InputError::InputError;
};

// A file that can't be read, is no model, damaged, or of another version.
class FileError : public std::runtime_error {
 public:
  FileError(const std::string& what, std::string why, std::string remedy)
      : std::runtime_error(what), why_(std::move(why)), remedy_(std::move(remedy)) {}
  const std::string& why() const noexcept { return why_; }
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  std::string why_, remedy_;
};

}  // namespace qfx
