// Transposes of square blocks of values, held in registers. Included once by every unit of one instruction set; see
// storage.h.
#pragma once

#if defined(__x86_64__)
// GCC warns of values inside its own intrinsics, which it does not use.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
#include <stdint.h>
#include <string.h>

#include "attributes.h"

namespace {

// A value of sixteen bytes, such as a complex number in double precision.
struct Value16 {
  uint64_t half[2];
};

// Blocks are held in vectors of sixteen bytes, or side by side in wider ones: as many as one register holds.
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

// Stores past the caches, for whole lines of them, written one after the other.
#if defined(__x86_64__)
inline void stream(void* to, __m128i v) { _mm_stream_si128(static_cast<__m128i*>(to), v); }
#ifdef __AVX2__
inline void stream(void* to, __m256i v) { _mm256_stream_si256(static_cast<__m256i*>(to), v); }
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
inline void stream(void* to, __m512i v) { _mm512_stream_si512(static_cast<__m512i*>(to), v); }
#endif
#endif

template <bool streamed, class Vector>
inline void store(void* to, const Vector& v) {
#if defined(__x86_64__)
  if constexpr (streamed) {
    if constexpr (sizeof(Vector) == 16) stream(to, __m128i(v));
#ifdef __AVX2__
    if constexpr (sizeof(Vector) == 32) stream(to, __m256i(v));
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
    if constexpr (sizeof(Vector) == 64) stream(to, __m512i(v));
#endif
    return;
  }
#endif
  memcpy(to, &v, sizeof(Vector));
}

// Blocks of lanes x lanes values, side by side along the output's rows. Their input runs along the output's columns,
// forwards or backwards. Interleaving the first half of the vectors with the second, once for every bit of the number
// of lanes, transposes.
template <class T, int blocks, bool backwards, bool streamed>
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
  for (int i = 0; i < lanes; ++i) store<streamed>(to + i * rows_to, v[backwards ? lanes - 1 - i : i]);
}

// Squares of as many values each way as the widest vectors hold read every cache line of the input once. Values of one
// and two bytes would need more vectors than there are.
template <class T>
constexpr int64_t kSquare = kSideBySide > 1 && (sizeof(T) == 4 || sizeof(T) == 8) ? 16 / sizeof(T) * kSideBySide : 0;

// Pieces of sixteen bytes: piece b of vector q becomes piece q of vector b.
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
template <class Vector>
inline void exchange_pieces(Vector (&p)[4]) {
  const __m512i v[4] = {__m512i(p[0]), __m512i(p[1]), __m512i(p[2]), __m512i(p[3])};
  const __m512i even01 = _mm512_shuffle_i64x2(v[0], v[1], 0x88), odd01 = _mm512_shuffle_i64x2(v[0], v[1], 0xdd);
  const __m512i even23 = _mm512_shuffle_i64x2(v[2], v[3], 0x88), odd23 = _mm512_shuffle_i64x2(v[2], v[3], 0xdd);
  p[0] = Vector(_mm512_shuffle_i64x2(even01, even23, 0x88));
  p[1] = Vector(_mm512_shuffle_i64x2(odd01, odd23, 0x88));
  p[2] = Vector(_mm512_shuffle_i64x2(even01, even23, 0xdd));
  p[3] = Vector(_mm512_shuffle_i64x2(odd01, odd23, 0xdd));
}
#elif defined(__AVX2__)
template <class Vector>
inline void exchange_pieces(Vector (&p)[2]) {
  const __m256i a = __m256i(p[0]), b = __m256i(p[1]);
  p[0] = Vector(_mm256_permute2x128_si256(a, b, 0x20));
  p[1] = Vector(_mm256_permute2x128_si256(a, b, 0x31));
}
#endif

// The values of a register in the opposite order.
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
inline __m512i reversed(const uint64_t* p) {
  return _mm512_permutexvar_epi64(_mm512_set_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_loadu_si512(p));
}
inline __m512i reversed(const uint32_t* p) {
  const __m512i places = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_epi32(places, _mm512_loadu_si512(p));
}
#elif defined(__AVX2__)
inline __m256i reversed(const uint64_t* p) { return _mm256_permute4x64_epi64(load256(p, 16), 0x1b); }
inline __m256i reversed(const uint32_t* p) {
  return _mm256_permutevar8x32_epi32(load256(p, 16), _mm256_set_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

#ifdef __AVX2__
// The same as `transpose_block` for a square.
template <class T, bool backwards>
inline void transpose_square(T* to, int64_t rows_to, const T* from, int64_t columns_from) {
  typedef Block<T, kSideBySide> B;
  constexpr int lanes = B::lanes, side = int(kSquare<T>);
  typedef typename B::Vector Vector;
  Vector v[side], w[side];
  const T* start = backwards ? from - (side - 1) : from;
#pragma GCC unroll 16
  for (int j = 0; j < side; ++j) memcpy(&v[j], start + j * columns_from, sizeof(Vector));
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
#pragma GCC unroll 16
    for (int pair = 0; pair < side / 2; ++pair) {
      const int first = pair / (lanes / 2) * lanes, i = pair % (lanes / 2);
      w[first + 2 * i] = B::low(v[first + i], v[first + i + lanes / 2]);
      w[first + 2 * i + 1] = B::high(v[first + i], v[first + i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < side; ++i) v[i] = w[i];
  }
  // Piece b of v[q * lanes + i] belongs to row b * lanes + i, columns q * lanes and on.
#pragma GCC unroll 4
  for (int i = 0; i < lanes; ++i) {
    Vector p[kSideBySide];
#pragma GCC unroll 4
    for (int q = 0; q < kSideBySide; ++q) p[q] = v[q * lanes + i];
    exchange_pieces(p);
#pragma GCC unroll 4
    for (int b = 0; b < kSideBySide; ++b) {
      const int row = b * lanes + i;
      memcpy(to + (backwards ? side - 1 - row : row) * rows_to, &p[b], sizeof(Vector));
    }
  }
}
#endif

// Sixteen bytes, as many as the narrowest vectors hold.
typedef uint64_t Pair __attribute__((vector_size(16)));

// Sixteen bytes of values in the opposite order.
template <bool streamed, class T>
EQUIKERNELS_INLINE void reverse_sixteen(T* to, const T* from) {
  if constexpr (sizeof(T) == 1) {
    // Processors without byte shuffles are slow at anything else.
    uint64_t half[2];
    memcpy(half, from, 16);
    const Pair reversed = {__builtin_bswap64(half[1]), __builtin_bswap64(half[0])};
    store<streamed>(to, reversed);
  } else {
    typename Block<T, 1>::Vector v;
    memcpy(&v, from, 16);
    if constexpr (sizeof(T) == 2) v = __builtin_shufflevector(v, v, 7, 6, 5, 4, 3, 2, 1, 0);
    else if constexpr (sizeof(T) == 4) v = __builtin_shufflevector(v, v, 3, 2, 1, 0);
    else v = __builtin_shufflevector(v, v, 1, 0);
    store<streamed>(to, v);
  }
}

}  // namespace
