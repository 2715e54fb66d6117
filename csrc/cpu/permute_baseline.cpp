#include "permute_move.h"

const equikernels::PermuteMovers equikernels::permute_movers_baseline = kMovers;
