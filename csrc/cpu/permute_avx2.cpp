#include "permute_stream.h"

const equikernels::PermuteMovers equikernels::permute_movers_avx2 = kMovers;
