#include "cpu/sample.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

SampleJob make_sample_job(int storage, int dims, int taps, int padding, const Quintuple& shape, uintptr_t matrix,
                          const Triple& matrix_stride, uintptr_t directions, const Quadruple& direction_stride,
                          int64_t order) {
  const auto check = [](bool right, const char* message, int64_t came) {
    if (!right) throw std::invalid_argument(message + std::string(", got ") + std::to_string(came));
  };
  check(dims == 2 || dims == 3, "dims: expected 2 or 3", dims);
  check(taps == 1 || taps == 2 || (taps == 4 && dims == 2), "taps: expected 1, 2, or in two dimensions 4", taps);
  check(padding >= 0 && padding <= 2, "padding: expected 0 to 2", padding);
  check(order >= 0, "directions: expected at least 0", order);
  SampleJob job{};
  job.storage = storage_of(storage);
  job.dims = dims;
  job.taps = taps;
  job.padding = static_cast<equikernels::Padding>(padding);
  job.batch = shape[0];
  job.channels = shape[1];
  job.depth = shape[2];
  job.height = shape[3];
  job.width = shape[4];
  job.matrix = reinterpret_cast<const void*>(matrix);
  job.directions = reinterpret_cast<const void*>(directions);
  job.order = order;
  for (size_t axis = 0; axis < 3; ++axis) job.matrix_stride[axis] = matrix_stride[axis];
  for (size_t axis = 0; axis < 4; ++axis) job.direction_stride[axis] = direction_stride[axis];
  equikernels::check_sample_size(job);
  return job;
}

equikernels::Volumes volumes(uintptr_t data, const Quintuple& stride) {
  return {reinterpret_cast<const void*>(data), {stride[0], stride[1], stride[2], stride[3], stride[4]}};
}

void sample_apply(int storage, int dims, int taps, int padding, int threads, const Quintuple& shape, uintptr_t z,
                  const Quintuple& z_stride, uintptr_t matrix, const Triple& matrix_stride, uintptr_t directions,
                  const Quadruple& direction_stride, int64_t order, uintptr_t out) {
  SampleJob job = make_sample_job(storage, dims, taps, padding, shape, matrix, matrix_stride, directions,
                                  direction_stride, order);
  job.z = volumes(z, z_stride);
  job.out = reinterpret_cast<void*>(out);
  py::gil_scoped_release unlocked;
  equikernels::sample_apply(job, threads);
}

void sample_backward(int storage, int dims, int taps, int padding, int threads, const Quintuple& shape,
                     uintptr_t grad, const Quintuple& grad_stride, uintptr_t z, const Quintuple& z_stride,
                     uintptr_t matrix, const Triple& matrix_stride, uintptr_t directions,
                     const Quadruple& direction_stride, int64_t order, uintptr_t z_grad, uintptr_t matrix_grad) {
  SampleJob job = make_sample_job(storage, dims, taps, padding, shape, matrix, matrix_stride, directions,
                                  direction_stride, order);
  job.grad = volumes(grad, grad_stride);
  job.z = volumes(z, z_stride);
  job.out = reinterpret_cast<void*>(z_grad);
  py::gil_scoped_release unlocked;
  equikernels::sample_backward(job, reinterpret_cast<void*>(matrix_grad), threads);
}

}  // namespace

void define_sampling(py::module_& m) {
  m.def("sample_apply", &sample_apply);
  m.def("sample_backward", &sample_backward);
}

}  // namespace equikernels::python
