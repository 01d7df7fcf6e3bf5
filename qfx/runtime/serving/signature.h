#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/program.h"
#include "runtime/serving/cost.h"
#include "runtime/serving/sizes.h"

namespace qfx {

// A size of an input or output: a number, or -1 and the name of one that calls choose; equal names are equal sizes.
struct NamedSize {
  int64_t size = -1;
  std::string name;
};

struct ModelInput {
  std::string name;
  DType dtype = DType::f32;
  std::vector<NamedSize> shape;
  int place = -1;  // among the program's inputs; -1: nothing reads it
  Dims example;    // its shape in the call that the costs are of
};

struct ModelOutput {
  std::string name;
  DType dtype = DType::f32;
  std::vector<NamedSize> shape;
  int place = 0;  // among the program's outputs
};

// How a model that is one program is called, without Python: the "serving" section of a file.
struct Signature {
  std::vector<ModelInput> inputs;
  std::vector<ModelOutput> outputs;
  std::vector<Condition> conditions;
  std::string structure;  // JSON: what Python returns, of outputs by number
  std::string metadata;   // JSON: an object, the user's
  Cost cost;              // of a call with the example shapes
};

template <class Archive>
void fields(Archive& archive, NamedSize& s) {
  archive(s.size);
  archive(s.name);
}

template <class Archive>
void fields(Archive& archive, ModelInput& i) {
  archive(i.name);
  archive(i.dtype);
  archive(i.shape);
  archive(i.place);
  archive(i.example);
}

template <class Archive>
void fields(Archive& archive, ModelOutput& o) {
  archive(o.name);
  archive(o.dtype);
  archive(o.shape);
  archive(o.place);
}

template <class Archive>
void fields(Archive& archive, Cost& c) {
  archive(c.memory);
  archive(c.products);
}

template <class Archive>
void fields(Archive& archive, Signature& s) {
  archive(s.inputs);
  archive(s.outputs);
  archive(s.conditions);
  archive(s.structure);
  archive(s.metadata);
  archive(s.cost);
}

std::string to_bytes(const Signature& signature);

// Checked: the program takes and gives what it says. Throws ProgramError.
Signature signature_of(std::span<const std::byte> bytes, const Program& program);

// What the program takes in the call that the costs are of, dense.
std::vector<InputLayout> example_of(const Signature& signature);

// Throws InputError unless inputs of these shapes are what the model takes.
void require_shapes(const Signature& signature, std::span<const Dims> shapes);

}  // namespace qfx
