// Changes of basis that are one or two sparse orthogonal matrices, applied to many vectors in one pass over memory.
//
// Vectors are taken a few at a time, as the lanes of a panel that stays in the first caches: coordinate c of all its
// lanes is one short run of memory. With a table of inputs and one of results, each (size, orbits), a family does
//     y[results[a][s]] = sum over b of weights[b][a] x[inputs[b][s]]
// in every lane alike. Every sum has the order of b and every lane is computed for itself, so results depend neither
// on where a panel begins nor on threads.
#pragma once

#include <stdint.h>

namespace equikernels {

// Its members are as wide as they are in the table that the caller makes of them.
struct ChangeFamily {
  int64_t size, orbits;
  const int32_t* inputs;
  const int32_t* results;
  const void* weights;  // (size, size), of the type of the data: a row for every input
};

// The families of a stage set every coordinate once.
struct ChangeStage {
  const ChangeFamily* families;
  int64_t count;
};

// Coordinate c of lane l of sample s is at s * stride[0] + c * stride[1] + l * stride[2], in values. Coordinates or
// lanes are side by side. y is x itself or does not overlap it.
struct ChangeJob {
  bool is_double;
  int64_t samples, dim, lanes;
  const void* x;
  void* y;
  int64_t x_stride[3], y_stride[3];
  ChangeStage stages[2];
  int64_t count;  // of stages: 1 or 2
};

// Bytes of one coordinate of a panel.
constexpr int64_t kPanelBytes = 192;

// Panel number `unit` of all; `scratch` is as large as two panels, and aligned.
using ChangePanel = void (*)(const ChangeJob& job, int64_t unit, char* scratch);
struct ChangeKernels {
  ChangePanel panel[2];  // float, double
};
extern const ChangeKernels change_kernels_baseline;
extern const ChangeKernels change_kernels_avx2;
extern const ChangeKernels change_kernels_avx512;

void change_basis(const ChangeJob& job, int threads);

}  // namespace equikernels
