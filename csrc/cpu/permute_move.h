// Copies of boxes of values between two layouts: rows, reversed rows, transposes, anything else. Included once by every
// unit of one instruction set; see storage.h.
#pragma once

#include <stdint.h>
#include <string.h>

#include "permute.h"
#include "permute_blocks.h"
#include "permute_planes.h"

namespace {

typedef equikernels::PermuteBox Box;

constexpr int64_t kLine = 64;  // bytes that memory is read and written in
constexpr int64_t kSmallPlane = 1 << 14;  // bytes that a first-level cache holds twice

// --- transposes -------------------------------------------------------------------------------------------------

// At least one vector each way; the last one begins earlier and writes some values twice.
template <class T, int blocks, bool backwards>
inline void transpose_blocks(T* to, int64_t rows_to, const T* from, int64_t columns_from, int64_t rows,
                             int64_t columns) {
  constexpr int64_t lanes = Block<T, blocks>::lanes, wide = lanes * blocks;
  // A tile reads whole cache lines of the input.
  constexpr int64_t tile_rows = 64 / int64_t(sizeof(T));
  constexpr int64_t tile_columns = 64;
  const int64_t last_i = rows - lanes, last_j = columns - wide;
  const auto block = [&](int64_t i, int64_t j) {
    transpose_block<T, blocks, backwards, false>(to + i * rows_to + j, rows_to,
                                                 from + (backwards ? -i : i) + j * columns_from, columns_from);
  };
  if (last_i <= lanes && last_j <= wide) {
    // Small planes are many: without loops.
    block(0, 0);
    if (last_j > 0) block(0, last_j);
    if (last_i > 0) block(last_i, 0);
    if (last_i > 0 && last_j > 0) block(last_i, last_j);
    return;
  }
  for (int64_t i0 = 0; i0 < rows; i0 += tile_rows) {
    const int64_t i1 = i0 + tile_rows < rows ? i0 + tile_rows : rows;
    for (int64_t j0 = 0; j0 < columns; j0 += tile_columns) {
      const int64_t j1 = j0 + tile_columns < columns ? j0 + tile_columns : columns;
      for (int64_t j = j0; j < j1; j += wide) {
        for (int64_t i = i0; i < i1; i += lanes) block(i < last_i ? i : last_i, j < last_j ? j : last_j);
      }
    }
  }
}

#ifdef __AVX2__
template <class T, bool backwards>
inline void transpose_squares(T* to, int64_t rows_to, const T* from, int64_t columns_from, int64_t rows,
                              int64_t columns) {
  const auto square = [&](int64_t i, int64_t j) {
    transpose_square<T, backwards>(to + i * rows_to + j, rows_to, from + (backwards ? -i : i) + j * columns_from,
                                   columns_from);
  };
  if (rows * columns * int64_t(sizeof(T)) <= kSmallPlane) {
    // The input in the order of its lines.
    for (int64_t j = 0; j < columns; j += kSquare<T>) {
      for (int64_t i = 0; i < rows; i += kSquare<T>) square(i, j);
    }
    return;
  }
  // The output in the order of its lines: far apart, more of them than a first-level cache holds would be open.
  for (int64_t i = 0; i < rows; i += kSquare<T>) {
    for (int64_t j = 0; j < columns; j += kSquare<T>) square(i, j);
  }
}
#endif

template <class T, int blocks>
inline void transpose_either(T* to, int64_t rows_to, const T* from, int64_t rows_from, int64_t columns_from,
                             int64_t rows, int64_t columns) {
  if (rows_from > 0) transpose_blocks<T, blocks, false>(to, rows_to, from, columns_from, rows, columns);
  else transpose_blocks<T, blocks, true>(to, rows_to, from, columns_from, rows, columns);
}

// A plane whose input is contiguous along the output's rows, forwards or backwards.
template <class T>
inline void transpose(T* to, int64_t rows_to, const T* from, int64_t rows_from, int64_t columns_from, int64_t rows,
                      int64_t columns) {
  constexpr int64_t lanes = Block<T, 1>::lanes;
#ifdef __AVX2__
  if constexpr (kSquare<T> > 0) {
    // Where they fit: squares that overlap are slower than blocks that do.
    if (rows % kSquare<T> == 0 && columns % kSquare<T> == 0) {
      if (rows_from > 0) return transpose_squares<T, false>(to, rows_to, from, columns_from, rows, columns);
      return transpose_squares<T, true>(to, rows_to, from, columns_from, rows, columns);
    }
  }
#endif
  if constexpr (lanes > 1) {
    if (rows >= lanes && columns >= kSideBySide * lanes) {
      return transpose_either<T, kSideBySide>(to, rows_to, from, rows_from, columns_from, rows, columns);
    }
    if constexpr (kSideBySide > 2) {
      if (rows >= lanes && columns >= 2 * lanes) {
        return transpose_either<T, 2>(to, rows_to, from, rows_from, columns_from, rows, columns);
      }
    }
    if (rows >= lanes && columns >= lanes) {
      return transpose_either<T, 1>(to, rows_to, from, rows_from, columns_from, rows, columns);
    }
  }
  // Narrow planes, and values as wide as a vector: tiles that fit a first-level cache.
  constexpr int64_t tile = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += tile) {
    const int64_t i1 = i0 + tile < rows ? i0 + tile : rows;
    for (int64_t j0 = 0; j0 < columns; j0 += tile) {
      const int64_t j1 = j0 + tile < columns ? j0 + tile : columns;
      for (int64_t i = i0; i < i1; ++i) {
        for (int64_t j = j0; j < j1; ++j) to[i * rows_to + j] = from[i * rows_from + j * columns_from];
      }
    }
  }
}

// --- rows -----------------------------------------------------------------------------------------------------

template <class T>
EQUIKERNELS_INLINE void copy_row(T* to, const T* from, int64_t count) {
  const int64_t bytes = count * int64_t(sizeof(T));
  if (bytes < 16) {
    for (int64_t j = 0; j < count; ++j) to[j] = from[j];
    return;
  }
  if (bytes > 256) {
    memcpy(to, from, size_t(bytes));
    return;
  }
  // Short rows, inline; the last piece overlaps the one before.
  char* target = reinterpret_cast<char*>(to);
  const char* source = reinterpret_cast<const char*>(from);
  for (int64_t at = 0; at < bytes; at += 16) {
    const int64_t piece = at + 16 <= bytes ? at : bytes - 16;
    memcpy(target + piece, source + piece, 16);
  }
}

template <class T>
EQUIKERNELS_INLINE void reverse_row(T* to, const T* from, int64_t count) {
  constexpr int64_t lanes = Block<T, 1>::lanes;
  // Values of two bytes are left to the compiler, which does whole rows of them better.
  if constexpr (lanes > 1 && sizeof(T) != 2) {
    if (count >= lanes) {
      int64_t j = 0;
#ifdef __AVX2__
      if constexpr (kSquare<T> > 0) {
        for (; j + kSquare<T> <= count; j += kSquare<T>) store<false>(to + j, reversed(from - j - (kSquare<T> - 1)));
      }
#endif
      for (; j + lanes <= count; j += lanes) reverse_sixteen<false>(to + j, from - j - (lanes - 1));
      // The last piece overlaps the one before.
      if (j < count) reverse_sixteen<false>(to + count - lanes, from - (count - 1));
      return;
    }
  }
  for (int64_t j = 0; j < count; ++j) to[j] = from[-j];
}

template <class T>
EQUIKERNELS_INLINE void stride_row(T* to, const T* from, int64_t stride, int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] = from[j * stride];
}

// --- boxes ----------------------------------------------------------------------------------------------------

// Drops axes of one value and joins neighbours that both sides walk as one, such as whole planes.
inline Box simplified(const Box& box) {
  Box simple{{1, 1, 1, 1}, {0, 0, 0, 1}, {0, 0, 0, 1}};
  int last = 3;
  bool begun = false;
  for (int axis = 3; axis >= 0; --axis) {
    if (box.size[axis] == 1) continue;
    if (begun && box.from[axis] == simple.from[last] * simple.size[last] &&
        box.to[axis] == simple.to[last] * simple.size[last]) {
      simple.size[last] *= box.size[axis];
      continue;
    }
    if (begun) --last;
    begun = true;
    simple.size[last] = box.size[axis];
    simple.from[last] = box.from[axis];
    simple.to[last] = box.to[axis];
  }
  return simple;
}

// The axis along which the input is contiguous, where that is not the last one; else -1.
inline int contiguous_axis(const Box& box) {
  if (box.from[3] == 1 || box.from[3] == -1) return -1;
  int along = -1;
  for (int axis = 0; axis < 3; ++axis) {
    if (box.size[axis] > 1 && (box.from[axis] == 1 || box.from[axis] == -1)) along = axis;
  }
  return along;
}

template <class T>
void move(char* out, const char* z, const Box& given) {
  T* to = reinterpret_cast<T*>(out);
  const T* from = reinterpret_cast<const T*>(z);
  if (move_planes(to, from, given)) return;
  const Box box = simplified(given);
  const int64_t count = box.size[3], stride = box.from[3];
  const int along = contiguous_axis(box);
  int64_t limit[3];
  for (int axis = 0; axis < 3; ++axis) limit[axis] = axis == along ? 1 : box.size[axis];
  for (int64_t a = 0; a < limit[0]; ++a) {
    for (int64_t b = 0; b < limit[1]; ++b) {
      for (int64_t c = 0; c < limit[2]; ++c) {
        T* target = to + a * box.to[0] + b * box.to[1] + c * box.to[2];
        const T* source = from + a * box.from[0] + b * box.from[1] + c * box.from[2];
        if (along >= 0) {
          transpose(target, box.to[along], source, box.from[along], stride, box.size[along], count);
        } else if (stride == 1) {
          copy_row(target, source, count);
        } else if (stride == -1) {
          reverse_row(target, source, count);
        } else {
          stride_row(target, source, stride, count);
        }
      }
    }
  }
}

}  // namespace
