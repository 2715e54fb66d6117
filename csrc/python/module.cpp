// The module: functions of addresses, sizes, strides and a thread count.
#include <vector>

#include "cpu/isa.h"
#include "cpu/pages.h"
#include "python/families.h"

namespace {

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (auto isa : {equikernels::Isa::baseline, equikernels::Isa::avx2, equikernels::Isa::avx512}) {
    if (equikernels::isa_supported(isa)) names.emplace_back(equikernels::isa_name(isa));
  }
  return names;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  using namespace equikernels::python;
  m.doc() = "CPU kernels of equikernels: functions of addresses, sizes, strides and a thread count.";
  define_rotations(m);
  define_permutations(m);
  define_partition(m);
  define_sampling(m);
  define_bases(m);
  define_schur(m);
  define_averages(m);
  m.def("supported_isas", &supported_isas);
  m.def("selected_isa", [] { return std::string(equikernels::isa_name(equikernels::selected_isa())); });
  m.def("prefer_large_pages", [](uintptr_t data, int64_t bytes) {
    equikernels::prefer_large_pages(reinterpret_cast<void*>(data), bytes);
  });
}
