// The response of a constraint's singular values, applied to weights in two real Schur bases, on the CPU.
//
// Rows and columns of a matrix come in blocks of one or two, the two at the same distance everywhere. With `same` and `opposite` the factors of a pair of
// blocks, and P(M) = [[d, -c], [-b, a]] the partner of M = [[a, b], [c, d]],
//     out = (same + opposite) / 2 M + (same - opposite) / 2 P(M)
// for two blocks of two, and out = same M for all others. Where the second factor is zero, P(M) is not read.
#pragma once

#include <stdint.h>

#include "rotate.h"

namespace equikernels {

// The rows or the columns of a matrix.
struct SchurAxis {
  int64_t size, blocks;
  const int32_t* places;  // three numbers per coordinate, the second one: from here to the partner, or 0
  const int64_t* starts;  // first coordinate of every block
  int64_t distance;       // from the first to the second one of a pair
  const double* modes;    // real and imaginary part of the eigenvalue of every coordinate, or null
};

// How the work is cut up; it depends on sizes and strides alone, never on the number of threads.
struct SchurPlan {
  int64_t repeats;               // matrices side by side in memory that are one long row to a unit
  int64_t leads, leads_of_unit;  // matrices, or groups of `repeats` of them
  int64_t parts;                 // units that the leads are spread over
  int64_t band, bands;           // blocks of rows of one unit
  int64_t chunks;                // of columns
  const int64_t* cuts;           // chunks + 1 pairs of a column and the first block from there on
  int64_t pad;                   // values of scratch that are read and not used on either side of a line
  int64_t pitch;                 // values of one line of scratch
  int64_t units;                 // chunks * bands * parts
};

// Columns closer to their partners than this are taken as they come; others in runs of one kind.
constexpr int64_t kSchurRuns = 8;

struct SchurJob {
  Storage storage;
  int64_t outer, inner;  // matrices
  SchurAxis row, column;
  Images w;                      // (outer, inner, row, column) with any strides
  Images grad;                   // the same, for the inner product
  void* out;                     // as w, with strides of its own; it may be w itself
  int64_t out_stride[4];
  const void* same;              // (blocks, blocks) in the compute type, or null: computed from the modes
  const void* opposite;
  int64_t same_stride[2], opposite_stride[2];
  double cutoff, width;          // a width of zero: a hard cut-off
  double at_cutoff, tolerance;
  double* partial;               // (parts, row blocks, column blocks, 2)
  SchurPlan plan;
};

using SchurUnit = void (*)(const SchurJob& job, int64_t unit, char* scratch);
struct SchurKernels {
  SchurUnit scale[4];  // by storage
  SchurUnit inner[4];  // partial = <grad_Q, w_Q> and <grad_R, w_R> of every pair of blocks
};
extern const SchurKernels schur_kernels_baseline;
extern const SchurKernels schur_kernels_avx2;
extern const SchurKernels schur_kernels_avx512;

// Size and places of the axes are given, the rest is found.
void schur_scale(SchurJob job, int threads);

// (blocks, blocks) sums in the compute type over all matrices, contiguous.
void schur_inner(SchurJob job, void* same, void* opposite, int threads);

}  // namespace equikernels
