// What the kernels ask of the compiler.
#pragma once

// What an inner loop is made of: blocks of vectors, returned by value, must stay in registers.
#define EQUIKERNELS_INLINE inline __attribute__((always_inline))
