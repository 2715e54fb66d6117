// Signed permutations of the last three axes of a batch of volumes, one for every sample, on the CPU.
//
// Values are moved, never looked at: only their size matters. Images are volumes of one slice.
#pragma once

#include <stdint.h>

namespace equikernels {

struct PermuteJob {
  int64_t value_bytes;  // 1, 2, 4, 8 or 16
  int64_t size[5];      // of the input: batch, channels, depth, rows, columns
  int64_t stride[5];    // of the input, in values
  const void* z;
  const int64_t* elements;  // one per sample, each a row of the table
  int64_t element_stride;
  // Rows of three numbers: entry +-(b + 1) for output axis a says that a step along it is a step along
  // input axis b, forwards or backwards.
  const int64_t* table;
  int64_t table_rows;
  bool wrap;     // elements are taken modulo the number of rows, which is then a power of two
  bool swapped;  // the output has rows and columns exchanged
  void* out;     // contiguous
};

// Four nested axes of values; strides are counted in values. The destination's last axis is contiguous, also after
// axes of one value are dropped.
struct PermuteBox {
  int64_t size[4];
  int64_t from[4];
  int64_t to[4];
};

using PermuteMover = void (*)(char* out, const char* z, const PermuteBox& box);

// One table per instruction set: copies a box of values of 1, 2, 4, 8 and 16 bytes, through the caches or past them.
struct PermuteMovers {
  PermuteMover cached[5];
  PermuteMover streamed[5];
};
extern const PermuteMovers permute_movers_baseline;
extern const PermuteMovers permute_movers_avx2;
extern const PermuteMovers permute_movers_avx512;

// Throws std::invalid_argument for an element that is no row of the table, or one that does not carry
// the input's shape to the output's.
void permute(const PermuteJob& job, int threads);

}  // namespace equikernels
