// Affine sampling of a batch of images or volumes on the CPU, with all its derivatives: pointers,
// sizes, strides and a thread count.
//
// Places p are (x, y[, z]) in pixels, measured from the centre. The output at p is the interpolated
// input at M [p; 1]; along the directions V_1..V_k it is the k-th derivative of that,
// (V_1 [p; 1] . grad) ... (V_k [p; 1] . grad) of the interpolated input at M [p; 1].
//
// A unit of work sees the image as a frame: a scratch copy of up to four channels with some pixels
// around it that hold what the padding says. A place then needs nothing but its cell in the frame,
// whose taps are neighbours, and the weights of the taps; an adjoint adds to a frame that is folded
// back onto the image at the end.
#pragma once

#include <stdint.h>

#include "rotate.h"  // Storage

namespace equikernels {

enum class Padding { zeros = 0, border = 1, reflection = 2 };

// An input (batch, channel, depth, row, column) with any strides, counted in elements.
struct Volumes {
  const void* data;
  int64_t stride[5];
};

// How the work is cut up; it depends on the shape alone, never on the number of threads.
struct SamplePlan {
  int64_t groups;                  // of four channels
  int64_t planes;                  // batch * groups
  int64_t margin, depth_margin;    // pixels of the frame on each side
  int64_t pitch, lines, slices;    // size of the frame
  int64_t frame_bytes;
  int64_t rows;                    // output rows of a plane, over all slices
  int64_t bands, band_rows;        // a plane's rows in bands
  bool shared;                     // threads share one plane at a time, not one plane each
};

struct SampleJob {
  Storage storage;
  int dims, taps;  // 2 or 3 axes; 1, 2 or 4 taps along each
  Padding padding;
  int64_t batch, channels, depth, height, width;
  const void* matrix;  // (batch, dims, dims + 1) of double for f64 data, of float for every other storage
  int64_t matrix_stride[3];
  const void* directions;  // (order, batch, dims, dims + 1)
  int64_t direction_stride[4];
  int64_t order;
  Volumes z, grad;  // null data where not needed
  void* out;        // contiguous result of the shape of z
  SamplePlan plan;
};

// Entries of a matrix gradient, of which two dimensions use the first six.
constexpr int kMatrixEntries = 12;

// One row of this table per instruction set. Rows are counted over all slices; frames hold
// plan.frame_bytes and are aligned to 64 bytes.
struct SampleKernels {
  // By storage: rows [begin, end) of the frame of a plane of z.
  void (*fill[4])(const SampleJob& job, int64_t plane, int64_t begin, int64_t end, char* frame);
  // By storage and form (see sample.cpp): output rows [begin, end).
  void (*apply[4][5])(const SampleJob& job, int64_t plane, int64_t begin, int64_t end, const char* frame);
  // What output rows [begin, end) add to `sum`, the frame of the adjoint, and their share of the matrix
  // gradient, for which `frame` holds z; either may be null.
  void (*backward[4][5])(const SampleJob& job, int64_t plane, int64_t begin, int64_t end, const char* frame,
                         char* sum, double* partial);
  // By storage: folds the frame of the adjoint onto the image and writes it.
  void (*finish[4])(const SampleJob& job, int64_t plane, char* sum);
};
extern const SampleKernels sample_kernels_baseline;
extern const SampleKernels sample_kernels_avx2;
extern const SampleKernels sample_kernels_avx512;

// The largest image whose places are still counted right; throws std::invalid_argument beyond.
void check_sample_size(const SampleJob& job);

void sample_apply(SampleJob job, int threads);

// The adjoint, where out is not null; the matrix gradient (batch, dims, dims + 1), where it is not null.
void sample_backward(SampleJob job, void* matrix_grad, int threads);

}  // namespace equikernels
