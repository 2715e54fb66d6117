#include "schur_kernel.h"

const equikernels::SchurKernels equikernels::schur_kernels_avx512 = EQUIKERNELS_SCHUR_TABLE;
