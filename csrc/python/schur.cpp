#include "cpu/schur.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

SchurJob make_schur_job(int storage, const Quadruple& shape, uintptr_t w, const Quadruple& w_stride,
                        uintptr_t row_places, uintptr_t column_places) {
  SchurJob job{};
  job.storage = storage_of(storage);
  job.outer = shape[0];
  job.inner = shape[1];
  job.row.size = shape[2];
  job.column.size = shape[3];
  job.row.places = reinterpret_cast<const int32_t*>(row_places);
  job.column.places = reinterpret_cast<const int32_t*>(column_places);
  job.w = images(w, w_stride);
  return job;
}

void set_result(SchurJob& job, uintptr_t out, const Quadruple& out_stride) {
  job.out = reinterpret_cast<void*>(out);
  for (size_t axis = 0; axis < 4; ++axis) job.out_stride[axis] = out_stride[axis];
}

void schur_project(int storage, int threads, const Quadruple& shape, uintptr_t w, const Quadruple& w_stride,
                   uintptr_t row_places, uintptr_t column_places, uintptr_t row_modes, uintptr_t column_modes,
                   double cutoff, double width, double at_cutoff, double tolerance, uintptr_t out,
                   const Quadruple& out_stride) {
  SchurJob job = make_schur_job(storage, shape, w, w_stride, row_places, column_places);
  set_result(job, out, out_stride);
  job.row.modes = reinterpret_cast<const double*>(row_modes);
  job.column.modes = reinterpret_cast<const double*>(column_modes);
  job.cutoff = cutoff;
  job.width = width;
  job.at_cutoff = at_cutoff;
  job.tolerance = tolerance;
  py::gil_scoped_release unlocked;
  equikernels::schur_scale(job, threads);
}

void schur_scale(int storage, int threads, const Quadruple& shape, uintptr_t w, const Quadruple& w_stride,
                 uintptr_t row_places, uintptr_t column_places, uintptr_t same, const Pair& same_stride,
                 uintptr_t opposite, const Pair& opposite_stride, uintptr_t out, const Quadruple& out_stride) {
  SchurJob job = make_schur_job(storage, shape, w, w_stride, row_places, column_places);
  set_result(job, out, out_stride);
  job.same = reinterpret_cast<const void*>(same);
  job.opposite = reinterpret_cast<const void*>(opposite);
  for (size_t axis = 0; axis < 2; ++axis) {
    job.same_stride[axis] = same_stride[axis];
    job.opposite_stride[axis] = opposite_stride[axis];
  }
  py::gil_scoped_release unlocked;
  equikernels::schur_scale(job, threads);
}

void schur_inner(int storage, int threads, const Quadruple& shape, uintptr_t grad, const Quadruple& grad_stride,
                 uintptr_t w, const Quadruple& w_stride, uintptr_t row_places, uintptr_t column_places, uintptr_t same,
                 uintptr_t opposite) {
  SchurJob job = make_schur_job(storage, shape, w, w_stride, row_places, column_places);
  job.grad = images(grad, grad_stride);
  py::gil_scoped_release unlocked;
  equikernels::schur_inner(job, reinterpret_cast<void*>(same), reinterpret_cast<void*>(opposite), threads);
}

}  // namespace

void define_schur(py::module_& m) {
  m.def("schur_project", &schur_project);
  m.def("schur_scale", &schur_scale);
  m.def("schur_inner", &schur_inner);
}

}  // namespace equikernels::python
