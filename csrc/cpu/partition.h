// Channels partitioned into those that vary under rotation and those that do not, on the CPU.
//
// A mask (batch, channels) of ones, zeros and NaN selects: a channel of mask one is turned, one of mask zero is
// copied bit for bit, and one of mask NaN becomes NaN. With y = A z and a target t,
//     loss_i = sum over copied channels of (z - t)^2,   loss_v = sum over turned channels of (y - t)^2
// of each sample. Sums are taken in double in an order that depends on sizes and mask only.
#pragma once

#include "rotate.h"

namespace equikernels {

// One number per sample and channel, or (with a second stride of zero) per sample, of the compute type.
struct Numbers {
  const void* data;
  int64_t stride[2];
};

struct PartitionJob {
  RotateJob images;  // z, angles, plan; in the backward grad; out is the result of the shape of z
  Images target;     // null data: no losses
  Numbers mask;
  Numbers grad_i, grad_v;  // of the losses
  bool counterfactual;     // the estimator of the losses' gradient to the mask
  double* losses;          // two per unit, loss_i and loss_v
  double* mask_partial;    // (batch, channels, tiles), or null
  void* upstream;          // gradient to the turned images, contiguous, in the compute type; see partition.cpp
};

// No angles and no geometry: each channel goes one of two ways, as the number that it has beside it is above the
// threshold or not; the threshold is rounded to the type of those numbers.
struct SplitJob {
  RotateJob images;  // z; out is z_v, or in the backward the gradient to z, or null
  void* other;       // z_i
  Images grad_v, grad_i;
  Numbers soft;
  double threshold;
  double* mask_partial;  // (batch, channels, tiles), or null
};

// One row of this table per instruction set; by storage and by whether there are losses.
using PartitionUnit = void (*)(const PartitionJob& job, int64_t unit, char* scratch);
using SplitUnit = void (*)(const SplitJob& job, int64_t unit, char* scratch);
struct PartitionKernels {
  PartitionUnit forward[4][2];
  // Every gradient at once where the image is one tile. With several tiles what sums over output pixels,
  // and `upstream`; the gradient to z is then collected by `adjoint`.
  PartitionUnit backward[4][2];
  PartitionUnit adjoint[4][2];
  SplitUnit split[4];
  SplitUnit split_backward[4];
};
extern const PartitionKernels partition_kernels_baseline;
extern const PartitionKernels partition_kernels_avx2;
extern const PartitionKernels partition_kernels_avx512;

// out = turned and copied channels; with a target also the losses (batch,), in the compute type.
void partition_forward(PartitionJob job, void* loss_i, void* loss_v, int threads);

// Gradients to z (job.images.out), to the angles (batch,) and to the mask (batch, channels); null where not
// needed. The last two in the compute type.
void partition_backward(PartitionJob job, void* theta_grad, void* mask_grad, int threads);

// z_v = z in channels above the threshold and zero elsewhere, z_i the other way round; both NaN where `soft` is.
void split(SplitJob job, int threads);

// Gradients to z (job.images.out) and, as sum (grad_v - grad_i) z, to `soft` (batch, channels).
void split_backward(SplitJob job, void* mask_grad, int threads);

}  // namespace equikernels
