#include "change_kernel.h"

const equikernels::ChangeKernels equikernels::change_kernels_avx2 = EQUIKERNELS_CHANGE_TABLE;
