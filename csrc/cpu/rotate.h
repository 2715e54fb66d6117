// Bilinear rotation of a batch of images on the CPU: pointers, sizes, strides and a thread count.
//
// With X = c x - s y, Y = s x + c y for a pixel (x, y) measured from the centre of the image, the
// output at (x, y) is the bilinear interpolation of the input at (X, Y); the input is zero outside.
// Every derivative with respect to the angle is again four taps at the same place, because
// (d/d theta)^k (X + iY) = i^k (X + iY). So `order` selects the operator A_k = d^k A / d theta^k.
#pragma once

#include <stdint.h>

namespace equikernels {

enum class Storage { f32 = 0, f64 = 1, bf16 = 2, f16 = 3 };

// An input (batch, channel, row, column) with any strides, counted in elements.
struct Images {
  const void* data;
  int64_t stride[4];
};

// How the work is cut up. It depends on the shape alone, never on the number of threads: that is
// what makes results bit-equal for every number of threads.
struct RotatePlan {
  int64_t lanes;            // channels turned together, a group: 1 or up to 4
  int64_t groups_per_unit;  // groups of one unit, which share the geometry of a tile
  int64_t spans;            // units that the channels of a sample are spread over
  int64_t tile_height, tile_width;
  int64_t tiles_y, tiles_x;
  int64_t units;  // batch * spans * tiles_y * tiles_x
};

struct RotateJob {
  Storage storage;
  int64_t batch, channels, height, width;
  int order;
  const void* theta;  // double for f64 data, float for every other storage
  int64_t theta_stride;
  Images z;           // input of A_k; null data where not needed
  Images grad;        // input of the adjoint; null data where not needed
  void* out;          // contiguous result of the shape of z
  double* partial;    // one partial sum of the angle gradient per unit, or null
  RotatePlan plan;
};

// One row of this table per instruction set. `scratch` is at least scratch_bytes(job) long and
// aligned to 64 bytes.
using RotateUnit = void (*)(const RotateJob& job, int64_t unit, char* scratch);
struct RotateKernels {
  RotateUnit apply[4];    // by storage: out = A_k z
  RotateUnit adjoint[4];  // out = A_k^T grad, and with `partial` <grad, A_{k+1} z> (one tile only)
  RotateUnit angle[4];    // partial = <grad, A_{k+1} z>
};
extern const RotateKernels rotate_kernels_baseline;
extern const RotateKernels rotate_kernels_avx2;
extern const RotateKernels rotate_kernels_avx512;

// out = A_k z.
void rotate_apply(RotateJob job, int threads);

// out = A_k^T grad where out is not null; theta_grad[n] = <grad, A_{k+1} z>_n where it is not null.
void rotate_backward(RotateJob job, void* theta_grad, int threads);

}  // namespace equikernels
