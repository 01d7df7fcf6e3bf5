#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/errors.h"
#include "runtime/expr.h"

// Tables as bytes, all numbers little-endian; lists and texts (UTF-8) begin with their length.
namespace qfx {

// How many there are of an enum that tables hold.
template <class Enum>
inline constexpr size_t kKinds = 0;
template <>
inline constexpr size_t kKinds<DType> = std::size(kDTypes);
template <>
inline constexpr size_t kKinds<ExprKind> = std::size(kExprKinds);

// What writes tables: `fields(archive, table)`, an overload for each kind of table, gives it each field in its order.
class ArchiveWriter {
 public:
  template <class T>
  void operator()(const T& field) {
    if constexpr (std::is_enum_v<T>) {
      raw(static_cast<uint8_t>(field));
    } else if constexpr (std::is_arithmetic_v<T>) {
      raw(field);
    } else {
      fields(*this, const_cast<T&>(field));
    }
  }
  void operator()(const std::string& text) {
    raw(static_cast<uint64_t>(text.size()));
    out_ += text;
  }
  template <class T>
  void operator()(const std::vector<T>& list) {
    raw(static_cast<uint64_t>(list.size()));
    for (const T& item : list) (*this)(item);
  }
  template <class T>
  void operator()(const std::map<std::string, T>& map) {
    raw(static_cast<uint64_t>(map.size()));
    for (const auto& [name, item] : map) {
      (*this)(name);
      (*this)(item);
    }
  }

  std::string& bytes() { return out_; }

 private:
  template <class T>
  void raw(T number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }

  std::string out_;
};

// What reads them. Takes nothing for granted: every count is held against what is left, of which an item takes a byte
// at least. Throws a ProgramError of `where`.
class ArchiveReader {
 public:
  ArchiveReader(std::span<const std::byte> bytes, const char* where) : left_(bytes), where_(where) {}

  template <class T>
  void operator()(T& field) {
    if constexpr (std::is_enum_v<T>) {
      field = static_cast<T>(kind(kKinds<T>));
    } else if constexpr (std::is_arithmetic_v<T>) {
      field = raw<T>();
    } else {
      fields(*this, field);
    }
  }
  void operator()(std::string& text) {
    const size_t size = count();
    text.assign(reinterpret_cast<const char*>(take(size).data()), size);
    if (!is_utf8(text)) refuse("a name in its bytes is no UTF-8");
  }
  template <class T>
  void operator()(std::vector<T>& list) {
    const size_t size = count();
    for (size_t i = 0; i < size; ++i) (*this)(list.emplace_back());
  }
  template <class T>
  void operator()(std::map<std::string, T>& map) {
    const size_t size = count();
    for (size_t i = 0; i < size; ++i) {
      std::string name;
      (*this)(name);
      const auto [entry, is_new] = map.try_emplace(std::move(name));
      if (!is_new || entry != std::prev(map.end())) refuse("attributes in its bytes are twice there, or out of order");
      (*this)(entry->second);
    }
  }

  bool is_at_end() const { return left_.empty(); }

 private:
  std::span<const std::byte> take(size_t size) {
    if (size > left_.size()) refuse("its bytes end within the tables");
    const auto taken = left_.first(size);
    left_ = left_.subspan(size);
    return taken;
  }
  template <class T>
  T raw() {
    T number;
    std::memcpy(&number, take(sizeof number).data(), sizeof number);
    return number;
  }
  size_t count() {
    const auto size = raw<uint64_t>();
    if (size > left_.size()) refuse("its bytes end within the tables");
    return static_cast<size_t>(size);
  }
  uint8_t kind(size_t count) {
    const auto found = raw<uint8_t>();
    if (found >= count) refuse("a type or kind in its bytes does not exist");
    return found;
  }
  // RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF.
  static bool is_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const auto at = [&](size_t k) { return i + k < text.size() ? static_cast<uint8_t>(text[i + k]) : 0; };
      const uint8_t lead = at(0);
      const size_t more = lead < 0x80 ? 0 : lead < 0xC2 ? 9 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : 9;
      if (more == 9) return false;
      for (size_t k = 1; k <= more; ++k) {
        if ((at(k) & 0xC0) != 0x80) return false;
      }
      const bool is_overlong = (lead == 0xE0 && at(1) < 0xA0) || (lead == 0xF0 && at(1) < 0x90);
      const bool is_beyond = (lead == 0xED && at(1) > 0x9F) || (lead == 0xF4 && at(1) > 0x8F);
      if (is_overlong || is_beyond) return false;
      i += more + 1;
    }
    return true;
  }

  [[noreturn]] void refuse(const char* what) const { throw ProgramError(where_, what); }

  std::span<const std::byte> left_;
  const char* where_;
};

}  // namespace qfx
