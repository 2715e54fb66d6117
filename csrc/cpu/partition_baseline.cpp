#include "partition_kernel.h"

const equikernels::PartitionKernels equikernels::partition_kernels_baseline = EQUIKERNELS_PARTITION_TABLE;
