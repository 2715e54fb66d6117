#include "average_kernel.h"

const equikernels::AverageKernels equikernels::average_kernels_baseline = EQUIKERNELS_AVERAGE_TABLE;
