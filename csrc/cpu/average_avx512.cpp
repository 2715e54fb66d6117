#include "average_kernel.h"

const equikernels::AverageKernels equikernels::average_kernels_avx512 = EQUIKERNELS_AVERAGE_TABLE;
