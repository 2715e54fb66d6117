#include <vector>

#include "cpu/average.h"
#include "python/families.h"

namespace equikernels::python {
namespace {

using Numbers64 = std::vector<int64_t>;

// Strides of channels, rows and columns come last.
equikernels::BlockLayout block_layout(const Numbers64& stride, size_t outer_dims) {
  if (stride.size() != outer_dims + 3) throw std::invalid_argument("stride: expected one number per dimension");
  return {stride.data(), stride[outer_dims], stride[outer_dims + 1], stride[outer_dims + 2]};
}

// `size` is (outer..., channels, m, n).
AverageShape average_shape(int storage, int64_t order, const Numbers64& size, uintptr_t sources_out,
                           uintptr_t sources_in, uintptr_t table) {
  if (size.size() < 4) throw std::invalid_argument("size: expected samples, channels, rows and columns");
  const size_t outer_dims = size.size() - 3;
  AverageShape shape{};
  shape.storage = storage_of(storage);
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

}  // namespace

void define_averages(py::module_& m) {
  m.def("group_average", &group_average);
  m.def("group_correlate", &group_correlate);
}

}  // namespace equikernels::python
