#include "change_kernel.h"

const equikernels::ChangeKernels equikernels::change_kernels_baseline = EQUIKERNELS_CHANGE_TABLE;
