#include "cpu/permute.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

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

}  // namespace

void define_permutations(py::module_& m) { m.def("permute", &permute); }

}  // namespace equikernels::python
