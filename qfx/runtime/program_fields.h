#pragma once
#include "runtime/program.h"

// The parts of a program as tables (archive.h).
namespace qfx {

// The one description: `archive` takes each field in its order.
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

}  // namespace qfx
