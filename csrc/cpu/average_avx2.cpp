#include "average_kernel.h"

const equikernels::AverageKernels equikernels::average_kernels_avx2 = EQUIKERNELS_AVERAGE_TABLE;
