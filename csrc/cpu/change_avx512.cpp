#include "change_kernel.h"

const equikernels::ChangeKernels equikernels::change_kernels_avx512 = EQUIKERNELS_CHANGE_TABLE;
