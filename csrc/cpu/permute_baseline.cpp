#include "permute_stream.h"

const equikernels::PermuteMovers equikernels::permute_movers_baseline = kMovers;
