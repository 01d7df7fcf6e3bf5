#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/isa.h"
#include "runtime/executable.h"
#include "runtime/serving/mapped_file.h"
#include "runtime/serving/signature.h"

namespace qfx {

// A quantized model of a .qfx file: what Python without torch, the C API and the command line run. All members may be
// called from many threads at once.
class Model {
 public:
  // What one call may take, held against it before anything of that size is allocated or run; absent: anything.
  struct Limits {
    std::optional<uint64_t> memory;    // Cost::memory, and what the call takes here: memory_of()
    std::optional<uint64_t> products;  // Cost::products, and those that are computed twice
  };

  // file: the whole file; constants that are not packed are used where they lie, and `owner` is kept as long.
  // where: what errors call it. Throws FileError, ProgramError and LimitError.
  Model(std::span<const std::byte> file, const std::shared_ptr<const void>& owner, const std::string& where, Isa isa,
        Limits limits = {});
  Model(std::shared_ptr<const MappedFile> file, Isa isa, Limits limits = {});

  const Signature& signature() const noexcept { return signature_; }
  const LoadedProgram& loaded() const noexcept { return executable_->loaded(); }
  Isa isa() const noexcept { return executable_->loaded().isa; }
  // Whether the file has the weights as this ISA's kernels want them.
  bool is_packed() const noexcept { return is_packed_; }

  // Calls with inputs laid out like these, one for each input of the signature.
  struct Call {
    std::vector<InputLayout> inputs;
    std::shared_ptr<const Plan> plan;  // of what the program takes
  };
  // Throws InputError, and LimitError.
  std::shared_ptr<const Call> prepare(std::vector<InputLayout> inputs);
  const Dims& output_shape(const Call& call, size_t output) const {
    return call.plan->output_shapes[signature_.outputs[output].place];
  }

  // One call. in, out: first elements, in the signature's order; `out` is dense. threads: as Executable's. Throws
  // InputValuesError, FileError where the file was cut short, LimitError where so many threads take more memory, and
  // std::bad_alloc.
  void run(const Call& call, std::span<const void* const> in, std::span<void* const> out, int threads);

 private:
  void load(std::span<const std::byte> file, const std::shared_ptr<const void>& owner, const std::string& where,
            Isa isa);
  DType taken_as(const ModelInput& input) const;
  bool is_shifted(const ModelOutput& output) const;
  void require_memory(const Call& call, int threads) const;

  Signature signature_;
  Limits limits_;
  std::shared_ptr<const MappedFile> file_;  // or null: of memory
  bool is_packed_ = false;
  std::unique_ptr<Executable> executable_;
};

}  // namespace qfx
