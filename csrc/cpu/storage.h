// Four consecutive values of a tensor as a vector of the compute type, and back.
//
// Included by the units compiled for one instruction set each, hence the anonymous namespace and no
// standard library: a shared inline function compiled with AVX-512 could be linked into code that
// runs on a CPU without it.
#pragma once

#include <stdint.h>
#include <string.h>

#include "attributes.h"

namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef double Double4 __attribute__((vector_size(32)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef uint32_t Word4 __attribute__((vector_size(16)));
typedef uint16_t Short4 __attribute__((vector_size(8)));

struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <class T> struct VectorOf;
template <> struct VectorOf<float> { typedef Float4 type; };
template <> struct VectorOf<double> { typedef Double4 type; };
template <class T> using Vector = typename VectorOf<T>::type;

// float64 data is computed in float64, everything else in float32.
template <class S> struct ComputeOf { typedef float type; };
template <> struct ComputeOf<double> { typedef double type; };
template <class S> using Compute = typename ComputeOf<S>::type;

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

template <class V, class S>
inline V load_unaligned(const S* p) {
  V v;
  memcpy(&v, p, sizeof(V));
  return v;
}

template <class V, class S>
inline void store_unaligned(S* p, V v) {
  memcpy(p, &v, sizeof(V));
}

inline Float4 load4(const float* p) { return load_unaligned<Float4>(p); }
inline Double4 load4(const double* p) { return load_unaligned<Double4>(p); }

inline Float4 load4(const Bf16* p) {
  const Word4 bits = __builtin_convertvector(load_unaligned<Short4>(p), Word4);
  return bit_cast<Float4>(bits << 16);
}

// A subnormal half is an integer times 2^-24; everything else is a shift and a new exponent bias.
// Neither uses subnormal floats, which a process may have told the CPU to flush.
inline Float4 load4(const Half* p) {
  const Word4 half = __builtin_convertvector(load_unaligned<Short4>(p), Word4);
  const Word4 sign = (half & 0x8000u) << 16;
  const Word4 magnitude = half & 0x7fffu;
  const Word4 normal = (magnitude << 13) + (112u << 23);
  const Word4 special = (magnitude << 13) | 0x7f800000u;
  const Float4 small = __builtin_convertvector(bit_cast<Int4>(magnitude), Float4) * 0x1p-24f;
  Word4 bits = magnitude < 0x400u ? bit_cast<Word4>(small) : normal;
  bits = magnitude >= 0x7c00u ? special : bits;
  return bit_cast<Float4>(bits | sign);
}

inline void store4(float* p, Float4 v) { store_unaligned(p, v); }
inline void store4(double* p, Double4 v) { store_unaligned(p, v); }

// Round to nearest, ties to even, as torch does.
inline void store4(Bf16* p, Float4 v) {
  const Word4 bits = bit_cast<Word4>(v);
  const Word4 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Word4 nan = (bits >> 16) | 0x40u;
  const Word4 result = (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
  store_unaligned(p, __builtin_convertvector(result, Short4));
}

// 0.5 has a spacing of 2^-24, the smallest half: adding it rounds a subnormal result correctly.
inline void store4(Half* p, Float4 v) {
  const Word4 bits = bit_cast<Word4>(v);
  const Word4 magnitude = bits & 0x7fffffffu;
  const Word4 sign = (bits >> 16) & 0x8000u;
  const Word4 small = bit_cast<Word4>(bit_cast<Float4>(magnitude) + 0.5f) - 0x3f000000u;
  const Word4 normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  Word4 result = magnitude < 0x38800000u ? small : normal;
  result = magnitude >= 0x477ff000u ? result * 0u + 0x7c00u : result;
  result = magnitude > 0x7f800000u ? result * 0u + 0x7e00u : result;
  store_unaligned(p, __builtin_convertvector(result | sign, Short4));
}

// Between 1 and 4 values, a stride apart; the rest of the vector is zero.
template <class S>
EQUIKERNELS_INLINE Vector<Compute<S>> load_some(const S* p, int64_t stride, int64_t count) {
  if (stride == 1 && count >= 4) return load4(p);
  S buffer[4] = {};
  for (int64_t i = 0; i < count && i < 4; ++i) buffer[i] = p[i * stride];
  return load4(buffer);
}

template <class S>
EQUIKERNELS_INLINE void store_some(S* p, Vector<Compute<S>> v, int64_t count) {
  if (count >= 4) {
    store4(p, v);
    return;
  }
  S buffer[4];
  store4(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}

template <class V>
inline double sum_lanes(V v) {
  return (double(v[0]) + double(v[2])) + (double(v[1]) + double(v[3]));
}

inline Double4 widened(Float4 v) { return __builtin_convertvector(v, Double4); }
inline Double4 widened(Double4 v) { return v; }

// Rows become columns: four pixels of one channel each <-> four channels of one pixel each.
template <class V>
EQUIKERNELS_INLINE void transpose4(V v[4]) {
  const V low01 = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const V high01 = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const V low23 = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const V high23 = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

}  // namespace
