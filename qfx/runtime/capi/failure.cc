#include "runtime/capi/failure.h"

#include <exception>
#include <new>

#include "runtime/errors.h"

namespace qfx::capi {
namespace {

thread_local std::string text;
thread_local const char* shown = "";  // `text`, or one that needs no memory

// The sentences that are there.
std::string joined(std::string what, const std::string& why, const std::string& remedy) {
  for (const std::string& sentence : {why, remedy}) {
    if (!sentence.empty()) what += " " + sentence;
  }
  return what;
}

// Sentences begin with a capital and end with a full stop.
std::string as_sentence(std::string clause) {
  if (clause.empty()) return clause;
  if (clause[0] >= 'a' && clause[0] <= 'z') clause[0] = static_cast<char>(clause[0] - 'a' + 'A');
  if (clause.back() != '.') clause += '.';
  return clause;
}

constexpr const char* kNoMemory =
    "There is not enough memory for this. Close what is not needed, or give the model smaller inputs.";

struct Failure {
  qfx_status status;
  std::string text;
};

Failure described() {
  try {
    throw;
  } catch (const ArgumentError& error) {
    return {QFX_ERROR_ARGUMENT, joined(error.what(), {}, error.remedy())};
  } catch (const FileError& error) {
    return {QFX_ERROR_FILE, joined(error.what(), error.why(), error.remedy())};
  } catch (const ProgramError& error) {
    return {QFX_ERROR_PROGRAM, joined("'" + error.where() + "': " + as_sentence(error.what()),
                                      "The file is whole, but this qfx can't run what it holds.",
                                      "Save the model again with this version of qfx.")};
  } catch (const LimitError& error) {
    return {QFX_ERROR_LIMIT, joined(error.what(), {}, "Give smaller inputs, or allow more in the options.")};
  } catch (const InputValuesError& error) {
    return {QFX_ERROR_INPUT, joined(error.what(), {}, "Give values that the model has entries for.")};
  } catch (const InputError& error) {
    return {QFX_ERROR_INPUT, joined(error.what(), {}, "Give inputs of shapes that the model takes.")};
  } catch (const std::bad_alloc&) {
    return {QFX_ERROR_MEMORY, kNoMemory};
  } catch (const std::exception& error) {
    return {QFX_ERROR_INTERNAL, joined(as_sentence(error.what()), "This is a bug of qfx.", "Please report it.")};
  }
}

}  // namespace

const char* last_failure() noexcept {
  return shown;
}

qfx_status remember_failure() noexcept {
  try {
    Failure failure = described();
    text = std::move(failure.text);
    shown = text.c_str();
    return failure.status;
  } catch (const std::bad_alloc&) {
    shown = kNoMemory;
    return QFX_ERROR_MEMORY;
  } catch (...) {
    shown = "Something that is no C++ exception was thrown. This is a bug of qfx. Please report it.";
    return QFX_ERROR_INTERNAL;
  }
}

}  // namespace qfx::capi
