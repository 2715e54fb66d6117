#include "schur_kernel.h"

const equikernels::SchurKernels equikernels::schur_kernels_baseline = EQUIKERNELS_SCHUR_TABLE;
