#include "sample_kernel.h"

const equikernels::SampleKernels equikernels::sample_kernels_baseline = EQUIKERNELS_SAMPLE_TABLE;
