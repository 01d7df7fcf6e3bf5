#include "runtime/program_bytes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>

#include "runtime/errors.h"

namespace qfx {
namespace {

constexpr std::string_view kMagic{"\x89QFXPRG\n", 8};
// A program has the first version that says all of it: states came with the second.
constexpr uint32_t kWithoutStates = 1, kWithStates = 2;
constexpr size_t kAlignment = AlignedBuffer::kAlignment;

struct Head {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t tables;    // bytes
  uint64_t contents;  // bytes of all constants, with the zeros between them
  char zeros[32];
};
static_assert(sizeof(Head) == kAlignment);

constexpr uint64_t aligned(uint64_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

[[noreturn]] void refuse(const std::string& what) {
  throw ProgramError("program", what);
}

// ---------------------------------------------------------------- what the tables hold

struct Described {
  DType dtype = DType::u8;
  Dims shape;
};

struct Tables {
  std::vector<Described> constants;
  std::vector<Value> values;
  std::vector<Expr> exprs;
  std::vector<Step> steps;
  std::vector<int> inputs, outputs;
  std::vector<State> states;
};

// The one description: `archive` takes each field in its order.
template <class Archive>
void fields(Archive& archive, Described& c) {
  archive(c.dtype);
  archive(c.shape);
}

template <class Archive>
void fields(Archive& archive, Value& v) {
  archive(v.name);
  archive(v.dtype);
  archive(v.shape);
  archive(v.constant);
}

template <class Archive>
void fields(Archive& archive, Expr& e) {
  archive(e.kind);
  archive(e.a);
  archive(e.b);
}

template <class Archive>
void fields(Archive& archive, Step& s) {
  archive(s.op);
  archive(s.name);
  archive(s.inputs);
  archive(s.outputs);
  archive(s.ints);
  archive(s.floats);
  archive(s.exprs);
  archive(s.constants);
  archive(s.text);
}

template <class Archive>
void fields(Archive& archive, State& s) {
  archive(s.input);
  archive(s.output);
  archive(s.initial);
}

template <class Archive>
void fields(Archive& archive, Tables& t, uint32_t version) {
  archive(t.constants);
  archive(t.values);
  archive(t.exprs);
  archive(t.steps);
  archive(t.inputs);
  archive(t.outputs);
  if (version >= kWithStates) archive(t.states);
}

// ---------------------------------------------------------------- archives

class Writer {
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

// Takes nothing for granted: every count is held against what is left, of which an item takes a byte at least.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <class T>
  void operator()(T& field) {
    if constexpr (std::is_same_v<T, DType>) {
      field = static_cast<DType>(kind(static_cast<uint8_t>(std::size(kDTypes) - 1)));
    } else if constexpr (std::is_same_v<T, ExprKind>) {
      field = static_cast<ExprKind>(kind(static_cast<uint8_t>(std::size(kExprKinds) - 1)));
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
  uint8_t kind(uint8_t most) {
    const auto found = raw<uint8_t>();
    if (found > most) refuse("a type or kind in its bytes does not exist");
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

  std::span<const std::byte> left_;
};

// ---------------------------------------------------------------- from tables to a program

// Bytes that a constant takes; refuses a shape that no memory holds.
uint64_t bytes_of(const Described& c) {
  try {
    return static_cast<uint64_t>(byte_size(element_count(c.shape), c.dtype));
  } catch (const std::invalid_argument& error) {
    refuse(std::string("a constant in its bytes has a ") + error.what());
  }
}

void add_constants(ProgramBuilder& builder, std::vector<Described>& constants, std::span<const std::byte> contents,
                   const std::shared_ptr<const void>& owner) {
  uint64_t offset = 0;
  for (Described& c : constants) {
    const uint64_t bytes = bytes_of(c);
    if (bytes > contents.size() - offset || aligned(bytes) > contents.size() - offset) {
      refuse("its bytes end within the constants");
    }
    builder.constant(c.dtype, std::move(c.shape), {contents.data() + offset, static_cast<size_t>(bytes), owner});
    offset += aligned(bytes);
  }
  if (offset != contents.size()) refuse("its bytes go on behind the last constant");
}

void add_exprs(ProgramBuilder& builder, const std::vector<Expr>& exprs) {
  for (const Expr& e : exprs) {
    const bool takes_two = e.kind == ExprKind::dim || expr_operands(e.kind) == 2;
    if (!takes_two && e.b != 0) refuse("an expression in its bytes has an operand too many");
    if (e.kind == ExprKind::constant) {
      builder.expr_const(e.a);
    } else if (e.kind == ExprKind::dim) {
      builder.expr_dim(e.a, e.b);
    } else {
      builder.expr(e.kind, e.a, e.b);
    }
  }
}

std::shared_ptr<const Program> built(Tables tables, std::span<const std::byte> contents,
                                     const std::shared_ptr<const void>& owner) {
  ProgramBuilder builder;
  add_constants(builder, tables.constants, contents, owner);
  for (Value& v : tables.values) {
    if (std::ranges::any_of(v.shape, [](int64_t d) { return d < -1; })) refuse("a dimension in its bytes is below -1");
    const int id = builder.value(std::move(v.name), v.dtype, std::move(v.shape));
    if (v.constant != -1) builder.hold(id, v.constant);
  }
  add_exprs(builder, tables.exprs);
  for (Step& s : tables.steps) builder.step(std::move(s));
  for (const State& s : tables.states) builder.state(s);
  return builder.build(std::move(tables.inputs), std::move(tables.outputs));
}

Head read_head(std::span<const std::byte> bytes) {
  Head head{};
  if (bytes.size() < sizeof head + AlignedBuffer::kReadSlack) refuse("its bytes end within the head");
  std::memcpy(&head, bytes.data(), sizeof head);
  if (std::string_view(head.magic, sizeof head.magic) != kMagic) refuse("its bytes are no program");
  if (head.version < kWithoutStates || head.version > kWithStates) {
    refuse("its bytes are of version " + std::to_string(head.version) + " of the format, and this qfx reads versions " +
           std::to_string(kWithoutStates) + " to " + std::to_string(kWithStates));
  }
  const uint64_t rest = bytes.size() - sizeof head - AlignedBuffer::kReadSlack;
  const bool fits = head.tables <= rest && aligned(head.tables) <= rest;
  if (!fits || head.contents != rest - aligned(head.tables)) refuse("its bytes are not as many as its head says");
  return head;
}

void require_little_endian() {
  if constexpr (std::endian::native != std::endian::little) refuse("programs as bytes need a little-endian machine");
}

}  // namespace

std::string to_bytes(const Program& program) {
  require_little_endian();
  Tables tables{
      {}, program.values(), program.exprs(), program.steps(), program.inputs(), program.outputs(), program.states()};
  for (const Constant& c : program.constants()) tables.constants.push_back({c.dtype, c.shape});
  Writer writer;
  Head head{};
  head.version = tables.states.empty() ? kWithoutStates : kWithStates;
  fields(writer, tables, head.version);
  std::memcpy(head.magic, kMagic.data(), kMagic.size());
  head.tables = writer.bytes().size();
  for (const Constant& c : program.constants()) head.contents += aligned(c.data.size());
  std::string out(reinterpret_cast<const char*>(&head), sizeof head);
  out.reserve(sizeof head + aligned(head.tables) + head.contents + AlignedBuffer::kReadSlack);
  out += writer.bytes();
  out.resize(aligned(out.size()));
  for (const Constant& c : program.constants()) {
    if (c.data.size() > 0) out.append(reinterpret_cast<const char*>(c.data.data()), c.data.size());
    out.resize(aligned(out.size()));
  }
  out.resize(out.size() + AlignedBuffer::kReadSlack);
  return out;
}

std::shared_ptr<const Program> program_of(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  require_little_endian();
  const Head head = read_head(bytes);
  Reader reader(bytes.subspan(sizeof head, head.tables));
  Tables tables;
  fields(reader, tables, head.version);
  if (!reader.is_at_end()) refuse("its tables go on behind their end");
  if (tables.states.empty() != (head.version == kWithoutStates)) {
    refuse("its bytes are of a later version of the format than they need");
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    const auto copy = std::make_shared<AlignedBuffer>(bytes.size());
    std::memcpy(copy->data(), bytes.data(), bytes.size());
    bytes = {copy->data(), bytes.size()};
    owner = copy;
  }
  return built(std::move(tables), bytes.subspan(sizeof head + aligned(head.tables), head.contents), owner);
}

}  // namespace qfx
