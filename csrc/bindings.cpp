// The only file that knows Python: numbers in, kernels called without the interpreter lock.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "cpu/permute.h"
#include "cpu/rotate.h"

namespace py = pybind11;

namespace {

using equikernels::RotateJob;
using Quadruple = std::array<int64_t, 4>;
using Quintuple = std::array<int64_t, 5>;

// Beyond this, float32 no longer tells neighbouring pixels apart, and positions outgrow their integers.
constexpr int64_t kLargestSide = int64_t(1) << 22;

equikernels::Images images(uintptr_t data, const Quadruple& stride) {
  return {reinterpret_cast<const void*>(data), {stride[0], stride[1], stride[2], stride[3]}};
}

RotateJob make_job(int storage, int order, const Quadruple& shape, uintptr_t theta, int64_t theta_stride) {
  if (storage < 0 || storage > 3) throw std::invalid_argument("storage: expected 0 to 3, got " + std::to_string(storage));
  if (order < 0) throw std::invalid_argument("order: expected at least 0, got " + std::to_string(order));
  if (shape[2] > kLargestSide || shape[3] > kLargestSide) {
    throw std::invalid_argument("z: expected at most " + std::to_string(kLargestSide) + " rows and columns, got " +
                                std::to_string(shape[2]) + " x " + std::to_string(shape[3]));
  }
  RotateJob job{};
  job.storage = static_cast<equikernels::Storage>(storage);
  job.batch = shape[0];
  job.channels = shape[1];
  job.height = shape[2];
  job.width = shape[3];
  job.order = order;
  job.theta = reinterpret_cast<const void*>(theta);
  job.theta_stride = theta_stride;
  return job;
}

void rotate_apply(int storage, int order, int threads, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride,
                  uintptr_t theta, int64_t theta_stride, uintptr_t out) {
  RotateJob job = make_job(storage, order, shape, theta, theta_stride);
  job.z = images(z, z_stride);
  job.out = reinterpret_cast<void*>(out);
  py::gil_scoped_release unlocked;
  equikernels::rotate_apply(job, threads);
}

void rotate_backward(int storage, int order, int threads, const Quadruple& shape, uintptr_t grad,
                     const Quadruple& grad_stride, uintptr_t z, const Quadruple& z_stride, uintptr_t theta,
                     int64_t theta_stride, uintptr_t z_grad, uintptr_t theta_grad) {
  RotateJob job = make_job(storage, order, shape, theta, theta_stride);
  job.grad = images(grad, grad_stride);
  job.z = images(z, z_stride);
  job.out = reinterpret_cast<void*>(z_grad);
  py::gil_scoped_release unlocked;
  equikernels::rotate_backward(job, reinterpret_cast<void*>(theta_grad), threads);
}

void permute(int64_t value_bytes, int threads, const Quintuple& shape, const Quintuple& stride, uintptr_t z,
             uintptr_t elements, int64_t element_stride, uintptr_t table, int64_t table_rows, bool wrap, bool swapped,
             uintptr_t out) {
  equikernels::PermuteJob job{};
  job.value_bytes = value_bytes;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    job.size[axis] = shape[axis];
    job.stride[axis] = stride[axis];
  }
  job.z = reinterpret_cast<const void*>(z);
  job.elements = reinterpret_cast<const int64_t*>(elements);
  job.element_stride = element_stride;
  job.table = reinterpret_cast<const int64_t*>(table);
  job.table_rows = table_rows;
  job.wrap = wrap;
  job.swapped = swapped;
  job.out = reinterpret_cast<void*>(out);
  py::gil_scoped_release unlocked;
  equikernels::permute(job, threads);
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (auto isa : {equikernels::Isa::baseline, equikernels::Isa::avx2, equikernels::Isa::avx512}) {
    if (equikernels::isa_supported(isa)) names.emplace_back(equikernels::isa_name(isa));
  }
  return names;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "CPU kernels of equikernels: functions of addresses, sizes, strides and a thread count.";
  m.def("rotate_apply", &rotate_apply);
  m.def("rotate_backward", &rotate_backward);
  m.def("permute", &permute);
  m.def("supported_isas", &supported_isas);
  m.def("selected_isa", [] { return std::string(equikernels::isa_name(equikernels::selected_isa())); });
}
