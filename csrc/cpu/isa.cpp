#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace equikernels {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

bool isa_supported(Isa isa) {
  if (isa == Isa::baseline) return true;
#ifdef EQUIKERNELS_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return avx2;
  // The unit is compiled with these four extensions, so all four must be there.
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#else
  return false;
#endif
}

namespace {

Isa choose() {
  const char* forced = std::getenv("EQUIKERNELS_ISA");
  if (forced == nullptr || *forced == '\0') {
    if (isa_supported(Isa::avx512)) return Isa::avx512;
    return isa_supported(Isa::avx2) ? Isa::avx2 : Isa::baseline;
  }
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (std::string(forced) != isa_name(isa)) continue;
    if (isa_supported(isa)) return isa;
    throw std::runtime_error(std::string("EQUIKERNELS_ISA=") + forced +
                             ": this CPU, or this build, does not have that instruction set");
  }
  throw std::runtime_error(std::string("EQUIKERNELS_ISA=") + forced +
                           " is unknown: expected baseline, avx2 or avx512");
}

}  // namespace

Isa selected_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace equikernels
