// What the files here share: numbers of Python in, what a kernel's job holds out. Only this folder knows Python.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cpu/rotate.h"

namespace equikernels::python {

namespace py = pybind11;

using Pair = std::array<int64_t, 2>;
using Triple = std::array<int64_t, 3>;
using Quadruple = std::array<int64_t, 4>;
using Quintuple = std::array<int64_t, 5>;

inline Storage storage_of(int number) {
  if (number < 0 || number > 3) throw std::invalid_argument("storage: expected 0 to 3, got " + std::to_string(number));
  return static_cast<Storage>(number);
}

inline Images images(uintptr_t data, const Quadruple& stride) {
  return {reinterpret_cast<const void*>(data), {stride[0], stride[1], stride[2], stride[3]}};
}

// Throws std::invalid_argument for a storage or an order that there is not, and for images too large.
RotateJob rotate_job(int storage, int order, const Quadruple& shape, uintptr_t theta, int64_t theta_stride);

// One for each family of kernels, in the file of its name: kernels are called without the interpreter lock.
void define_rotations(py::module_& m);
void define_permutations(py::module_& m);
void define_partition(py::module_& m);
void define_sampling(py::module_& m);
void define_bases(py::module_& m);
void define_schur(py::module_& m);
void define_averages(py::module_& m);

}  // namespace equikernels::python
