// Which instruction set the kernels run with, decided once per process.
#pragma once

namespace equikernels {

enum class Isa { baseline = 0, avx2 = 1, avx512 = 2 };

// The best set that was compiled in and that this CPU has, unless EQUIKERNELS_ISA names one.
// Throws std::runtime_error when the variable names an unknown or an impossible set.
Isa selected_isa();

// Whether the set was compiled in and this CPU has it.
bool isa_supported(Isa isa);

const char* isa_name(Isa isa);

}  // namespace equikernels
