#include "cpu/partition.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

equikernels::Numbers numbers(uintptr_t data, const Pair& stride) {
  return {reinterpret_cast<const void*>(data), {stride[0], stride[1]}};
}

SplitJob make_split(int storage, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride, uintptr_t soft,
                    const Pair& soft_stride, double threshold, uintptr_t out) {
  SplitJob job{};
  job.images.storage = storage_of(storage);
  job.images.batch = shape[0];
  job.images.channels = shape[1];
  job.images.height = shape[2];
  job.images.width = shape[3];
  job.images.z = images(z, z_stride);
  job.images.out = reinterpret_cast<void*>(out);
  job.soft = numbers(soft, soft_stride);
  job.threshold = threshold;
  return job;
}

void split(int storage, int threads, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride, uintptr_t soft,
           const Pair& soft_stride, double threshold, uintptr_t z_v, uintptr_t z_i) {
  SplitJob job = make_split(storage, shape, z, z_stride, soft, soft_stride, threshold, z_v);
  job.other = reinterpret_cast<void*>(z_i);
  py::gil_scoped_release unlocked;
  equikernels::split(job, threads);
}

void split_backward(int storage, int threads, const Quadruple& shape, uintptr_t grad_v, const Quadruple& grad_v_stride,
                    uintptr_t grad_i, const Quadruple& grad_i_stride, uintptr_t z, const Quadruple& z_stride,
                    uintptr_t soft, const Pair& soft_stride, double threshold, uintptr_t z_grad,
                    uintptr_t soft_grad) {
  SplitJob job = make_split(storage, shape, z, z_stride, soft, soft_stride, threshold, z_grad);
  job.grad_v = images(grad_v, grad_v_stride);
  job.grad_i = images(grad_i, grad_i_stride);
  py::gil_scoped_release unlocked;
  equikernels::split_backward(job, reinterpret_cast<void*>(soft_grad), threads);
}

void partition_forward(int storage, int threads, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride,
                       uintptr_t theta, int64_t theta_stride, uintptr_t mask, const Pair& mask_stride,
                       uintptr_t target, const Quadruple& target_stride, uintptr_t out, uintptr_t loss_i,
                       uintptr_t loss_v) {
  PartitionJob job{};
  job.images = rotate_job(storage, 0, shape, theta, theta_stride);
  job.images.z = images(z, z_stride);
  job.images.out = reinterpret_cast<void*>(out);
  job.target = images(target, target_stride);
  job.mask = numbers(mask, mask_stride);
  py::gil_scoped_release unlocked;
  equikernels::partition_forward(job, reinterpret_cast<void*>(loss_i), reinterpret_cast<void*>(loss_v), threads);
}

void partition_backward(int storage, int threads, const Quadruple& shape, uintptr_t grad, const Quadruple& grad_stride,
                        uintptr_t grad_i, int64_t grad_i_stride, uintptr_t grad_v, int64_t grad_v_stride, uintptr_t z,
                        const Quadruple& z_stride, uintptr_t theta, int64_t theta_stride, uintptr_t mask,
                        const Pair& mask_stride, uintptr_t target, const Quadruple& target_stride,
                        bool counterfactual, uintptr_t z_grad, uintptr_t theta_grad, uintptr_t mask_grad) {
  PartitionJob job{};
  job.images = rotate_job(storage, 0, shape, theta, theta_stride);
  job.images.z = images(z, z_stride);
  job.images.grad = images(grad, grad_stride);
  job.images.out = reinterpret_cast<void*>(z_grad);
  job.target = images(target, target_stride);
  job.mask = numbers(mask, mask_stride);
  job.grad_i = numbers(grad_i, {grad_i_stride, 0});
  job.grad_v = numbers(grad_v, {grad_v_stride, 0});
  job.counterfactual = counterfactual;
  py::gil_scoped_release unlocked;
  equikernels::partition_backward(job, reinterpret_cast<void*>(theta_grad), reinterpret_cast<void*>(mask_grad),
                                  threads);
}

}  // namespace

void define_partition(py::module_& m) {
  m.def("split", &split);
  m.def("split_backward", &split_backward);
  m.def("partition_forward", &partition_forward);
  m.def("partition_backward", &partition_backward);
}

}  // namespace equikernels::python
