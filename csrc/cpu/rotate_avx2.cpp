#include "rotate_kernel.h"

const equikernels::RotateKernels equikernels::rotate_kernels_avx2 = EQUIKERNELS_ROTATE_TABLE;
