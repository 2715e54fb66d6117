#include "sample_kernel.h"

const equikernels::SampleKernels equikernels::sample_kernels_avx2 = EQUIKERNELS_SAMPLE_TABLE;
