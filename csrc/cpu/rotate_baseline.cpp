#include "rotate_kernel.h"

const equikernels::RotateKernels equikernels::rotate_kernels_baseline = EQUIKERNELS_ROTATE_TABLE;
