#include "rotate_kernel.h"

const equikernels::RotateKernels equikernels::rotate_kernels_avx512 = EQUIKERNELS_ROTATE_TABLE;
