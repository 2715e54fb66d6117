// Orbit transforms: a sparse orthogonal matrix that mixes the coordinates of each orbit among themselves.
//
// A family holds `orbits` orbits of `size` coordinates each, all mixed by one matrix: with inputs and outputs
// (size, orbits) as index tables,
//     y[outputs[a][s]] = sum over b of mix[a][b] x[inputs[b][s]].
// The families of a transform share no coordinate. Every sum has the order of b, whatever the threads.
#pragma once

#include <stdint.h>

namespace equikernels {

struct OrbitFamily {
  int64_t size, orbits;
  const int32_t* inputs;
  const int32_t* outputs;
  const void* mix;  // (size, size), of the type of the data
  // Bit b: the entries of row b of the table are consecutive numbers.
  uint64_t input_runs, output_runs;
};

// Data of shape (batch, rows, columns) with columns side by side; x and y do not overlap.
struct OrbitJob {
  bool is_double;
  int64_t batch, rows, columns;
  const void* x;
  void* y;
  int64_t x_stride[2], y_stride[2];  // of batch and rows, in values
  const OrbitFamily* families;
  int64_t count;
};

// A family's orbits may be this large: what is gathered of a row stays in a buffer on the stack.
constexpr int64_t kLargestOrbit = 64;

// What one thread does: of rows begin .. end of all, or of orbits begin .. end of one family in one sample.
using OrbitRows = void (*)(const OrbitJob& job, int64_t begin, int64_t end);
using OrbitColumns = void (*)(const OrbitJob& job, const OrbitFamily& family, int64_t sample, int64_t begin, int64_t end);
struct OrbitKernels {
  OrbitRows rows[2];  // float, double
  OrbitColumns columns[2];
};
extern const OrbitKernels orbit_kernels_baseline;
extern const OrbitKernels orbit_kernels_avx2;
extern const OrbitKernels orbit_kernels_avx512;

// Transforms every row: the index tables count columns.
void orbit_transform_rows(const OrbitJob& job, int threads);

// Transforms every column: the index tables count rows.
void orbit_transform_columns(const OrbitJob& job, int threads);

}  // namespace equikernels
