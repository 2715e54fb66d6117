#include "cpu/rotate.h"

#include "python/families.h"

namespace equikernels::python {

// Beyond this, float32 no longer tells neighbouring pixels apart, and positions outgrow their integers.
static constexpr int64_t kLargestSide = int64_t(1) << 22;

RotateJob rotate_job(int storage, int order, const Quadruple& shape, uintptr_t theta, int64_t theta_stride) {
  if (order < 0) throw std::invalid_argument("order: expected at least 0, got " + std::to_string(order));
  if (shape[2] > kLargestSide || shape[3] > kLargestSide) {
    throw std::invalid_argument("z: expected at most " + std::to_string(kLargestSide) + " rows and columns, got " +
                                std::to_string(shape[2]) + " x " + std::to_string(shape[3]));
  }
  RotateJob job{};
  job.storage = storage_of(storage);
  job.batch = shape[0];
  job.channels = shape[1];
  job.height = shape[2];
  job.width = shape[3];
  job.order = order;
  job.theta = reinterpret_cast<const void*>(theta);
  job.theta_stride = theta_stride;
  return job;
}

namespace {

void rotate_apply(int storage, int order, int threads, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride,
                  uintptr_t theta, int64_t theta_stride, uintptr_t out) {
  RotateJob job = rotate_job(storage, order, shape, theta, theta_stride);
  job.z = images(z, z_stride);
  job.out = reinterpret_cast<void*>(out);
  py::gil_scoped_release unlocked;
  equikernels::rotate_apply(job, threads);
}

void rotate_backward(int storage, int order, int threads, const Quadruple& shape, uintptr_t grad,
                     const Quadruple& grad_stride, uintptr_t z, const Quadruple& z_stride, uintptr_t theta,
                     int64_t theta_stride, uintptr_t z_grad, uintptr_t theta_grad) {
  RotateJob job = rotate_job(storage, order, shape, theta, theta_stride);
  job.grad = images(grad, grad_stride);
  job.z = images(z, z_stride);
  job.out = reinterpret_cast<void*>(z_grad);
  py::gil_scoped_release unlocked;
  equikernels::rotate_backward(job, reinterpret_cast<void*>(theta_grad), threads);
}

}  // namespace

void define_rotations(py::module_& m) {
  m.def("rotate_apply", &rotate_apply);
  m.def("rotate_backward", &rotate_backward);
}

}  // namespace equikernels::python
