// The only file that knows Python: numbers in, kernels called without the interpreter lock.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/average.h"
#include "cpu/change.h"
#include "cpu/isa.h"
#include "cpu/orbit.h"
#include "cpu/pages.h"
#include "cpu/partition.h"
#include "cpu/permute.h"
#include "cpu/rotate.h"
#include "cpu/sample.h"
#include "cpu/schur.h"

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

// Five numbers of volumes, or four of images, which are volumes of one slice.
void read_axes(const char* name, const py::tuple& numbers, int64_t of_slice, int64_t (&axes)[5]) {
  const bool images = numbers.size() == 4;
  if (!images && numbers.size() != 5) {
    throw std::invalid_argument(std::string(name) + ": expected 4 or 5 numbers, got " + std::to_string(numbers.size()));
  }
  size_t next = 0;
  for (int axis = 0; axis < 5; ++axis) axes[axis] = images && axis == 2 ? of_slice : numbers[next++].cast<int64_t>();
}

void permute(int64_t value_bytes, int threads, const py::tuple& shape, const py::tuple& stride, uintptr_t z,
             uintptr_t elements, int64_t element_stride, uintptr_t table, int64_t table_rows, bool wrap, bool swapped,
             uintptr_t out) {
  equikernels::PermuteJob job{};
  job.value_bytes = value_bytes;
  read_axes("shape", shape, 1, job.size);
  read_axes("stride", stride, 0, job.stride);
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

// --- partition ---

using equikernels::PartitionJob;
using equikernels::SplitJob;
using Pair = std::array<int64_t, 2>;

equikernels::Numbers numbers(uintptr_t data, const Pair& stride) {
  return {reinterpret_cast<const void*>(data), {stride[0], stride[1]}};
}

SplitJob make_split(int storage, const Quadruple& shape, uintptr_t z, const Quadruple& z_stride, uintptr_t soft,
                    const Pair& soft_stride, double threshold, uintptr_t out) {
  if (storage < 0 || storage > 3) throw std::invalid_argument("storage: expected 0 to 3, got " + std::to_string(storage));
  SplitJob job{};
  job.images.storage = static_cast<equikernels::Storage>(storage);
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
  job.images = make_job(storage, 0, shape, theta, theta_stride);
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
  job.images = make_job(storage, 0, shape, theta, theta_stride);
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

// --- end of partition ---

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (auto isa : {equikernels::Isa::baseline, equikernels::Isa::avx2, equikernels::Isa::avx512}) {
    if (equikernels::isa_supported(isa)) names.emplace_back(equikernels::isa_name(isa));
  }
  return names;
}

// --- affine sampling ---

using equikernels::SampleJob;
using Triple = std::array<int64_t, 3>;

SampleJob make_sample_job(int storage, int dims, int taps, int padding, const Quintuple& shape, uintptr_t matrix,
                          const Triple& matrix_stride, uintptr_t directions, const Quadruple& direction_stride,
                          int64_t order) {
  const auto check = [](bool right, const char* message, int64_t came) {
    if (!right) throw std::invalid_argument(message + std::string(", got ") + std::to_string(came));
  };
  check(storage >= 0 && storage <= 3, "storage: expected 0 to 3", storage);
  check(dims == 2 || dims == 3, "dims: expected 2 or 3", dims);
  check(taps == 1 || taps == 2 || (taps == 4 && dims == 2), "taps: expected 1, 2, or in two dimensions 4", taps);
  check(padding >= 0 && padding <= 2, "padding: expected 0 to 2", padding);
  check(order >= 0, "directions: expected at least 0", order);
  SampleJob job{};
  job.storage = static_cast<equikernels::Storage>(storage);
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

// --- orbit transforms ---

// `families`: size, orbits, the addresses of inputs, outputs and mix, the runs of inputs and outputs, of each.
void orbit_transform(bool is_double, bool columns, int threads, const std::array<int64_t, 3>& shape, uintptr_t x,
                     const Pair& x_stride, uintptr_t y, const Pair& y_stride,
                     const std::vector<std::array<uint64_t, 7>>& families) {
  std::vector<equikernels::OrbitFamily> given;
  for (const auto& family : families) {
    if (family[0] < 1 || family[0] > uint64_t(equikernels::kLargestOrbit)) {
      throw std::invalid_argument("families: expected orbits of 1 to " + std::to_string(equikernels::kLargestOrbit) +
                                  " coordinates, got " + std::to_string(family[0]));
    }
    given.push_back({int64_t(family[0]), int64_t(family[1]), reinterpret_cast<const int32_t*>(family[2]),
                     reinterpret_cast<const int32_t*>(family[3]), reinterpret_cast<const void*>(family[4]), family[5], family[6]});
  }
  equikernels::OrbitJob job{};
  job.is_double = is_double;
  job.batch = shape[0];
  job.rows = shape[1];
  job.columns = shape[2];
  job.x = reinterpret_cast<const void*>(x);
  job.y = reinterpret_cast<void*>(y);
  for (size_t axis = 0; axis < 2; ++axis) {
    job.x_stride[axis] = x_stride[axis];
    job.y_stride[axis] = y_stride[axis];
  }
  job.families = given.data();
  job.count = int64_t(given.size());
  py::gil_scoped_release unlocked;
  (columns ? equikernels::orbit_transform_columns : equikernels::orbit_transform_rows)(job, threads);
}

// --- changes of basis ---

// `stages`: the address of the families, as a table of five integers each, and their number.
void change_basis(bool is_double, int threads, const Triple& shape, uintptr_t x, const Triple& x_stride, uintptr_t y,
                  const Triple& y_stride, const std::vector<std::pair<uintptr_t, int64_t>>& stages) {
  static_assert(sizeof(equikernels::ChangeFamily) == 5 * sizeof(int64_t), "a family is five integers of a table");
  equikernels::ChangeJob job{};
  job.is_double = is_double;
  job.samples = shape[0];
  job.dim = shape[1];
  job.lanes = shape[2];
  job.x = reinterpret_cast<const void*>(x);
  job.y = reinterpret_cast<void*>(y);
  for (size_t axis = 0; axis < 3; ++axis) {
    job.x_stride[axis] = x_stride[axis];
    job.y_stride[axis] = y_stride[axis];
  }
  job.count = int64_t(stages.size());
  if (job.count < 1 || job.count > 2) {
    throw std::invalid_argument("stages: expected 1 or 2, got " + std::to_string(job.count));
  }
  for (size_t k = 0; k < stages.size(); ++k) {
    job.stages[k] = {reinterpret_cast<const equikernels::ChangeFamily*>(stages[k].first), stages[k].second};
  }
  py::gil_scoped_release unlocked;
  equikernels::change_basis(job, threads);
}

void define_sampling(py::module_& m) {
  m.def("sample_apply", &sample_apply);
  m.def("sample_backward", &sample_backward);
}

// --- factors of pairs of Schur blocks ---

using equikernels::SchurJob;

SchurJob make_schur_job(int storage, const Quadruple& shape, uintptr_t w, const Quadruple& w_stride,
                        uintptr_t row_places, uintptr_t column_places) {
  if (storage < 0 || storage > 3) throw std::invalid_argument("storage: expected 0 to 3, got " + std::to_string(storage));
  SchurJob job{};
  job.storage = static_cast<equikernels::Storage>(storage);
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

void define_schur(py::module_& m) {
  m.def("schur_project", &schur_project);
  m.def("schur_scale", &schur_scale);
  m.def("schur_inner", &schur_inner);
}

// --- averages over a group ---

using equikernels::AverageShape;
using Numbers64 = std::vector<int64_t>;

// Strides of channels, rows and columns come last.
equikernels::BlockLayout block_layout(const Numbers64& stride, size_t outer_dims) {
  if (stride.size() != outer_dims + 3) throw std::invalid_argument("stride: expected one number per dimension");
  return {stride.data(), stride[outer_dims], stride[outer_dims + 1], stride[outer_dims + 2]};
}

// `size` is (outer..., channels, m, n).
AverageShape average_shape(int storage, int64_t order, const Numbers64& size, uintptr_t sources_out,
                           uintptr_t sources_in, uintptr_t table) {
  if (storage < 0 || storage > 3) throw std::invalid_argument("storage: expected 0 to 3, got " + std::to_string(storage));
  if (size.size() < 4) throw std::invalid_argument("size: expected samples, channels, rows and columns");
  const size_t outer_dims = size.size() - 3;
  AverageShape shape{};
  shape.storage = static_cast<equikernels::Storage>(storage);
  shape.order = order;
  shape.outer_dims = int64_t(outer_dims);
  shape.outer_size = size.data();
  shape.channels = size[outer_dims];
  shape.m = size[outer_dims + 1];
  shape.n = size[outer_dims + 2];
  shape.sources_out = reinterpret_cast<const int64_t*>(sources_out);
  shape.sources_in = reinterpret_cast<const int64_t*>(sources_in);
  shape.table = reinterpret_cast<const int64_t*>(table);
  return shape;
}

void group_average(int storage, int threads, int64_t order, const Numbers64& size, uintptr_t sources_out,
                   uintptr_t sources_in, uintptr_t table, uintptr_t w, const Numbers64& w_stride, uintptr_t weights,
                   uintptr_t out, const Numbers64& out_stride) {
  const AverageShape shape = average_shape(storage, order, size, sources_out, sources_in, table);
  const auto w_layout = block_layout(w_stride, size.size() - 3), out_layout = block_layout(out_stride, size.size() - 3);
  py::gil_scoped_release unlocked;
  equikernels::group_average(shape, reinterpret_cast<const void*>(w), w_layout, reinterpret_cast<const void*>(weights),
                             reinterpret_cast<void*>(out), out_layout, threads);
}

void group_correlate(int storage, int threads, int64_t order, const Numbers64& size, uintptr_t sources_out,
                     uintptr_t sources_in, uintptr_t table, uintptr_t g, const Numbers64& g_stride, uintptr_t w,
                     const Numbers64& w_stride, uintptr_t result) {
  const AverageShape shape = average_shape(storage, order, size, sources_out, sources_in, table);
  const auto g_layout = block_layout(g_stride, size.size() - 3), w_layout = block_layout(w_stride, size.size() - 3);
  py::gil_scoped_release unlocked;
  equikernels::group_correlate(shape, reinterpret_cast<const void*>(g), g_layout, reinterpret_cast<const void*>(w),
                               w_layout, reinterpret_cast<void*>(result), threads);
}

void define_averages(py::module_& m) {
  m.def("group_average", &group_average);
  m.def("group_correlate", &group_correlate);
  m.def("prefer_large_pages", [](uintptr_t data, int64_t bytes) {
    equikernels::prefer_large_pages(reinterpret_cast<void*>(data), bytes);
  });
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "CPU kernels of equikernels: functions of addresses, sizes, strides and a thread count.";
  m.def("rotate_apply", &rotate_apply);
  m.def("rotate_backward", &rotate_backward);
  m.def("permute", &permute);
  // Partition.
  m.def("split", &split);
  m.def("split_backward", &split_backward);
  m.def("partition_forward", &partition_forward);
  m.def("partition_backward", &partition_backward);
  m.def("supported_isas", &supported_isas);
  m.def("selected_isa", [] { return std::string(equikernels::isa_name(equikernels::selected_isa())); });
  define_sampling(m);
  m.def("orbit_transform", &orbit_transform);
  m.def("change_basis", &change_basis);
  define_schur(m);
  define_averages(m);
}
