#include "schur_kernel.h"

const equikernels::SchurKernels equikernels::schur_kernels_avx2 = EQUIKERNELS_SCHUR_TABLE;
