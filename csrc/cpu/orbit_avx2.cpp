#include "orbit_kernel.h"

const equikernels::OrbitKernels equikernels::orbit_kernels_avx2 = EQUIKERNELS_ORBIT_TABLE;
