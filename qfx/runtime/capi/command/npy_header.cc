// The header of a .npy file: a dict of Python's, of which this reads what numpy writes and a little more.
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/capi/command/npy.h"

namespace qfx::command {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 46;
constexpr size_t kMostDims = 64;

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  NpyHeader header() {
    NpyHeader found;
    bool has_dtype = false, has_order = false, has_sizes = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !std::exchange(has_dtype, true)) {
        found.dtype = dtype();
      } else if (key == "fortran_order" && !std::exchange(has_order, true)) {
        found.is_fortran = boolean();
      } else if (key == "shape" && !std::exchange(has_sizes, true)) {
        found.sizes = sizes();
      } else {
        fail("it has '" + key + "' where descr, fortran_order and shape are once each");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (at_ != text_.size()) fail("something follows it");
    if (!has_dtype || !has_order || !has_sizes) fail("it does not have descr, fortran_order and shape");
    return found;
  }

 private:
  [[noreturn]] static void fail(const std::string& why) {
    throw std::runtime_error("its header can't be read: " + why);
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }

  bool accept(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) fail("there is no '" + std::string(1, c) + "' at " + std::to_string(at_));
  }

  bool accept_word(std::string_view word) {
    skip_blanks();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  std::string quoted() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) fail("a text does not end");
    const std::string found(text_.substr(at_, end - at_));
    at_ = end + 1;
    return found;
  }

  std::string dtype() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '[') {
      throw std::runtime_error("its elements are records, of which a model takes none");
    }
    return quoted();
  }

  bool boolean() {
    if (accept_word("True")) return true;
    if (!accept_word("False")) fail("fortran_order is neither True nor False");
    return false;
  }

  Sizes sizes() {
    Sizes found;
    int64_t count = 1;
    expect('(');
    while (!accept(')')) {
      found.push_back(size());
      if (found.size() > kMostDims) fail("it has more than " + std::to_string(kMostDims) + " dims");
      if (found.back() > 0 && count > kMostElements / found.back()) fail("it has too many elements");
      count *= found.back() == 0 ? 1 : found.back();
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return found;
  }

  int64_t size() {
    skip_blanks();
    const size_t begin = at_;
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kMostElements) fail("a size is too large");
    }
    if (at_ == begin) fail("a size is no number");
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

NpyHeader parse_npy_header(std::string_view text) {
  return Reader(text).header();
}

}  // namespace qfx::command
