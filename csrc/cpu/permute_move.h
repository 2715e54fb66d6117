// Copies of boxes of values between two layouts: rows, reversed rows, transposes, anything else. Included once by every
// unit of one instruction set; see storage.h.
#pragma once

#ifdef __AVX2__
// GCC warns of values inside its own intrinsics, which it does not use.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
#include <stdint.h>
#include <string.h>

#include "permute.h"

namespace {

typedef equikernels::PermuteBox Box;

// A value of sixteen bytes, such as a complex number in double precision.
struct Value16 {
  uint64_t half[2];
};

// --- transposes of square blocks, held in vectors of sixteen bytes or side by side in wider ones ------------------

// Blocks side by side: as many as one register holds.
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
constexpr int kSideBySide = 4;
#elif defined(__AVX2__)
constexpr int kSideBySide = 2;
#else
constexpr int kSideBySide = 1;
#endif

template <class T, int blocks> struct Block;  // values in a row of one block, and the vectors of all blocks' rows

#define EQUIKERNELS_BLOCK(T, LANES, LOW, HIGH)                                                      \
  template <> struct Block<T, 1> {                                                                  \
    static constexpr int lanes = LANES;                                                             \
    typedef T Vector __attribute__((vector_size(16)));                                              \
    static Vector low(Vector a, Vector b) { return __builtin_shufflevector(a, b, LOW); }            \
    static Vector high(Vector a, Vector b) { return __builtin_shufflevector(a, b, HIGH); }          \
  }
#define EQUIKERNELS_LIST(...) __VA_ARGS__
EQUIKERNELS_BLOCK(uint64_t, 2, EQUIKERNELS_LIST(0, 2), EQUIKERNELS_LIST(1, 3));
EQUIKERNELS_BLOCK(uint32_t, 4, EQUIKERNELS_LIST(0, 4, 1, 5), EQUIKERNELS_LIST(2, 6, 3, 7));
EQUIKERNELS_BLOCK(uint16_t, 8,
                  EQUIKERNELS_LIST(0, 8, 1, 9, 2, 10, 3, 11),
                  EQUIKERNELS_LIST(4, 12, 5, 13, 6, 14, 7, 15));
EQUIKERNELS_BLOCK(uint8_t, 16,
                  EQUIKERNELS_LIST(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                  EQUIKERNELS_LIST(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
#undef EQUIKERNELS_BLOCK
#undef EQUIKERNELS_LIST
// Interleaving within every sixteen bytes is what the unpack instructions do. A row of blocks is put together in a
// register: pieces written to memory could not be read as one vector without a stall.
#define EQUIKERNELS_WIDE_BLOCK(T, BITS, LANES, SUFFIX)                                              \
  template <> struct Block<T, BITS / 128> {                                                         \
    static constexpr int lanes = LANES;                                                             \
    typedef T Vector __attribute__((vector_size(BITS / 8)));                                        \
    static Vector low(Vector a, Vector b) {                                                         \
      return Vector(_mm##BITS##_unpacklo_##SUFFIX(__m##BITS##i(a), __m##BITS##i(b)));               \
    }                                                                                               \
    static Vector high(Vector a, Vector b) {                                                        \
      return Vector(_mm##BITS##_unpackhi_##SUFFIX(__m##BITS##i(a), __m##BITS##i(b)));               \
    }                                                                                               \
    static Vector load(const T* p, int64_t stride) { return Vector(load##BITS(p, stride * int64_t(sizeof(T)))); } \
  }
#define EQUIKERNELS_WIDE_BLOCKS(BITS)              \
  EQUIKERNELS_WIDE_BLOCK(uint64_t, BITS, 2, epi64); \
  EQUIKERNELS_WIDE_BLOCK(uint32_t, BITS, 4, epi32); \
  EQUIKERNELS_WIDE_BLOCK(uint16_t, BITS, 8, epi16); \
  EQUIKERNELS_WIDE_BLOCK(uint8_t, BITS, 16, epi8)
#ifdef __AVX2__
inline __m128i load128(const void* p, int64_t bytes) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(p) + bytes));
}
inline __m256i load256(const void* p, int64_t bytes) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(p, 0)), load128(p, bytes), 1);
}
EQUIKERNELS_WIDE_BLOCKS(256);
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
inline __m512i load512(const void* p, int64_t bytes) {
  const __m512i low = _mm512_castsi256_si512(load256(p, bytes));
  return _mm512_inserti64x4(low, load256(static_cast<const char*>(p) + 2 * bytes, bytes), 1);
}
EQUIKERNELS_WIDE_BLOCKS(512);
#endif
#undef EQUIKERNELS_WIDE_BLOCK
#undef EQUIKERNELS_WIDE_BLOCKS

// Too wide for blocks: one value is a vector already.
template <> struct Block<Value16, 1> {
  static constexpr int lanes = 1;
};

// Blocks of lanes x lanes values, side by side along the output's rows. Their input runs along the output's columns,
// forwards or backwards. Interleaving the first half of the vectors with the second, once for every bit of the number
// of lanes, transposes.
template <class T, int blocks, bool backwards>
inline void transpose_block(T* to, int64_t rows_to, const T* from, int64_t columns_from) {
  typedef Block<T, blocks> B;
  constexpr int lanes = B::lanes;
  typedef typename B::Vector Vector;
  Vector v[lanes], w[lanes];
  const T* start = backwards ? from - (lanes - 1) : from;
#pragma GCC unroll 16
  for (int j = 0; j < lanes; ++j) {
    if constexpr (blocks == 1) memcpy(&v[j], start + j * columns_from, sizeof(Vector));
    else v[j] = B::load(start + j * columns_from, lanes * columns_from);
  }
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      w[2 * i] = B::low(v[i], v[i + lanes / 2]);
      w[2 * i + 1] = B::high(v[i], v[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) v[i] = w[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) memcpy(to + i * rows_to, &v[backwards ? lanes - 1 - i : i], sizeof(Vector));
}

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
    transpose_block<T, blocks, backwards>(to + i * rows_to + j, rows_to,
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
inline void copy_row(T* to, const T* from, int64_t count) {
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

// Sixteen bytes of values in the opposite order; pairs of bytes are left to the compiler, which does them better.
template <class T>
inline void reverse_sixteen(T* to, const T* from) {
  if constexpr (sizeof(T) == 1) {
    // Processors without byte shuffles are slow at anything else.
    uint64_t half[2];
    memcpy(half, from, 16);
    const uint64_t reversed[2] = {__builtin_bswap64(half[1]), __builtin_bswap64(half[0])};
    memcpy(to, reversed, 16);
  } else {
    typename Block<T, 1>::Vector v;
    memcpy(&v, from, 16);
    if constexpr (sizeof(T) == 4) v = __builtin_shufflevector(v, v, 3, 2, 1, 0);
    else v = __builtin_shufflevector(v, v, 1, 0);
    memcpy(to, &v, 16);
  }
}

template <class T>
inline void reverse_row(T* to, const T* from, int64_t count) {
  constexpr int64_t lanes = Block<T, 1>::lanes;
  if constexpr (lanes > 1 && sizeof(T) != 2) {
    if (count >= lanes) {
      int64_t j = 0;
      for (; j + lanes <= count; j += lanes) reverse_sixteen(to + j, from - j - (lanes - 1));
      // The last piece overlaps the one before.
      if (j < count) reverse_sixteen(to + count - lanes, from - (count - 1));
      return;
    }
  }
  for (int64_t j = 0; j < count; ++j) to[j] = from[-j];
}

template <class T>
inline void stride_row(T* to, const T* from, int64_t stride, int64_t count) {
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

template <class T>
void move(char* out, const char* z, const Box& given) {
  T* to = reinterpret_cast<T*>(out);
  const T* from = reinterpret_cast<const T*>(z);
  const Box box = simplified(given);
  const int64_t count = box.size[3], stride = box.from[3];
  int along = -1;  // the axis along which the input is contiguous, where that is not the last one
  if (stride != 1 && stride != -1) {
    for (int axis = 0; axis < 3; ++axis) {
      if (box.size[axis] > 1 && (box.from[axis] == 1 || box.from[axis] == -1)) along = axis;
    }
  }
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

constexpr equikernels::PermuteMovers kMovers = {
    {move<uint8_t>, move<uint16_t>, move<uint32_t>, move<uint64_t>, move<Value16>}};

}  // namespace
