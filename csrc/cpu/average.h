// Weighted averages over a finite group that permutes the rows and columns of blocks, on the CPU.
//
// A tensor w (outer..., channels, m, n) is averaged as
//     out[x, y] = sum over g of weights[g] * w[sources_out[g, x], sources_in[g, y]].
// The elements b move a base row r to rows b r and a column j to b j. With V_b[j] = w[b r, b j] the group law gives
//     out[a r, a j] = sum over b of weights[a b^-1] * V_b[j],
// so a row orbit is gathered once, mixed by a small matrix, and moved to its places once. Columns of several channels
// are taken together where they are few.
#pragma once

#include <stdint.h>

#include "rotate.h"  // Storage

namespace equikernels {

// A tensor (outer..., channels, m, n), in elements.
struct BlockLayout {
  const int64_t* outer;  // strides of the outer dimensions, the first of which is that of samples
  int64_t channel, row, column;
};

// What the library's user gives: all index maps are permutations and obey the group law.
struct AverageShape {
  Storage storage;
  int64_t order, m, n, channels;
  int64_t outer_dims;           // at least one: samples, which have their own weights
  const int64_t* outer_size;
  const int64_t* sources_out;  // (order, m)
  const int64_t* sources_in;   // (order, n)
  const int64_t* table;        // (order, order): the place of a b^-1
};

// Where an element's row of a tile lies: offsets in elements from the tile's first channel.
struct ColumnMap {
  const int32_t* offset;   // (order, length)
  const bool* is_straight;  // (order,): offset[j] = j
  int64_t period;           // offset[j + period] = offset[j] + period < 2 period for all elements; zero if not so
};

// What the units of one call share.
struct AveragePlan {
  AverageShape shape;
  int64_t tile, length;        // channels of a tile, and its columns
  int64_t pitch;               // of a scratch row, in values of the compute type
  int64_t orbits;
  const int64_t* moved;        // (orbits, order): the row b r of the orbit's base row r
  const int64_t* first;        // (orbits + 1): where an orbit's representatives begin
  const int64_t* representative;  // (m,): one element for every row of an orbit
  int64_t orbits_per_unit, tiles_per_unit, orbit_parts, tile_parts, units;
  const void* w;
  BlockLayout w_layout;
  ColumnMap w_columns;
  // The average's result, or the other factor of the correlation.
  void* out;
  BlockLayout out_layout;
  ColumnMap out_columns;
  const int32_t* place;  // (length,): offsets of a tile's columns in `out`; null where they are 0, 1, 2, ...
  const void* mixing;    // (samples, order, order) in the compute type: weights[a b^-1]
  double* sums;          // (units, order)
};

// One table per instruction set, by storage.
using AverageUnit = void (*)(const AveragePlan& plan, int64_t unit, char* scratch);
struct AverageKernels {
  AverageUnit average[4];
  AverageUnit correlate[4];
};
extern const AverageKernels average_kernels_baseline;
extern const AverageKernels average_kernels_avx2;
extern const AverageKernels average_kernels_avx512;

// weights (samples, order) in the compute type, contiguous.
void group_average(const AverageShape& shape, const void* w, const BlockLayout& w_layout, const void* weights,
                   void* out, const BlockLayout& out_layout, int threads);

// result (samples, order) in the compute type: the sum over x and y of g[x, y] times w moved by each element.
void group_correlate(const AverageShape& shape, const void* g, const BlockLayout& g_layout, const void* w,
                     const BlockLayout& w_layout, void* result, int threads);

}  // namespace equikernels
