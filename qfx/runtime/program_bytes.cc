#include "runtime/program_bytes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "runtime/archive.h"
#include "runtime/errors.h"
#include "runtime/program_fields.h"  // IWYU pragma: keep: archives find it by its arguments

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

constexpr const char* kWhere = "program";

[[noreturn]] void refuse(const std::string& what) {
  throw ProgramError(kWhere, what);
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

template <class Archive>
void fields(Archive& archive, Described& c) {
  archive(c.dtype);
  archive(c.shape);
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
  ArchiveWriter writer;
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
  ArchiveReader reader(bytes.subspan(sizeof head, head.tables), kWhere);
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
