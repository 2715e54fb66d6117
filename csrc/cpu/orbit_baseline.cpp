#include "orbit_kernel.h"

const equikernels::OrbitKernels equikernels::orbit_kernels_baseline = EQUIKERNELS_ORBIT_TABLE;
