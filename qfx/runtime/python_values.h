#pragma once
#include <nanobind/nanobind.h>

#include <memory>
#include <vector>

#include "runtime/plan.h"

// Values of Python's as those of the runtime, for all that binds it.
namespace qfx {

namespace nb = nanobind;

// Reads a tuple or list of ints without building Python objects.
inline Dims read_ints(nb::handle sequence) {
  const nb::object owner = nb::steal(PySequence_Tuple(sequence.ptr()));  // a tuple is itself
  if (!owner.is_valid()) throw nb::python_error();
  const Py_ssize_t n = PyTuple_Size(owner.ptr());
  Dims out(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    out[i] = PyLong_AsLongLong(PyTuple_GetItem(owner.ptr(), i));
    if (out[i] == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
  }
  return out;
}

inline std::vector<InputLayout> read_layouts(const nb::tuple& layouts) {
  std::vector<InputLayout> out;
  out.reserve(nb::len(layouts));
  for (const nb::handle layout : layouts) {
    out.push_back({read_ints(layout[nb::int_(0)]), read_ints(layout[nb::int_(1)])});
  }
  return out;
}

template <class Pointer>
std::vector<Pointer> read_pointers(const nb::tuple& addresses, size_t count) {
  if (nb::len(addresses) != count) throw nb::value_error("as many addresses as tensors are needed");
  std::vector<Pointer> out;
  out.reserve(count);
  for (const nb::handle a : addresses) out.push_back(PyLong_AsVoidPtr(a.ptr()));
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  return out;
}

inline nb::tuple to_tuple(const Dims& dims) {
  nb::list items;
  for (const int64_t d : dims) items.append(d);
  return nb::tuple(items);
}

// A view of a Python object's memory, released when nothing uses it any more, on whatever thread that is.
inline std::shared_ptr<const Py_buffer> view_of(nb::handle given) {
  auto view = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(given.ptr(), view.get(), PyBUF_SIMPLE) != 0) throw nb::python_error();
  return {view.release(), [](Py_buffer* held) {
            if (Py_IsInitialized() == 0) return;  // the interpreter has ended, and the memory with it
            const nb::gil_scoped_acquire gil;
            PyBuffer_Release(held);
            delete held;
          }};
}

}  // namespace qfx
