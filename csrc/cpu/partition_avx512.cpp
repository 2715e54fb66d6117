#include "partition_kernel.h"

const equikernels::PartitionKernels equikernels::partition_kernels_avx512 = EQUIKERNELS_PARTITION_TABLE;
