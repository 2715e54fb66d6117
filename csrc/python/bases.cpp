#include <utility>
#include <vector>

#include "cpu/change.h"
#include "cpu/orbit.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

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

}  // namespace

void define_bases(py::module_& m) {
  m.def("orbit_transform", &orbit_transform);
  m.def("change_basis", &change_basis);
}

}  // namespace equikernels::python
