// Turned planes so small that four registers hold one: every value is picked by its place. Included once by every unit
// of one instruction set; see storage.h.
#pragma once

#include <stdint.h>

#include "permute.h"
#include "permute_blocks.h"

namespace {

#if defined(__AVX512BW__) && defined(__AVX512DQ__)
template <class T> struct Picked;  // values in a register, and each of its places picked from two registers

#define EQUIKERNELS_PICKED(T, LANES, MASK, SUFFIX)                                                                 \
  template <> struct Picked<T> {                                                                                  \
    static constexpr int lanes = LANES;                                                                            \
    typedef MASK Mask;                                                                                             \
    static __m512i load(const T* p, Mask some) { return _mm512_maskz_loadu_##SUFFIX(some, p); }                    \
    static void store(T* p, Mask some, __m512i v) { _mm512_mask_storeu_##SUFFIX(p, some, v); }                     \
    static __m512i pick(__m512i a, __m512i place, __m512i b) { return _mm512_permutex2var_##SUFFIX(a, place, b); } \
    static __m512i blend(Mask second, __m512i a, __m512i b) { return _mm512_mask_blend_##SUFFIX(second, a, b); }   \
    static Mask test(__m512i v, T bit) { return _mm512_test_##SUFFIX##_mask(v, _mm512_set1_##SUFFIX(bit)); }       \
  }
EQUIKERNELS_PICKED(uint16_t, 32, __mmask32, epi16);
EQUIKERNELS_PICKED(uint32_t, 16, __mmask16, epi32);
EQUIKERNELS_PICKED(uint64_t, 8, __mmask8, epi64);
#undef EQUIKERNELS_PICKED

// Where the values of one register of the output come from: places in the first or in the second pair of registers.
template <class T>
struct Places {
  __m512i place;
  typename Picked<T>::Mask second, some;  // those of the second pair; those that are there at all
};

template <class T, int registers>
inline void move_planes_in(T* to, const T* from, const Places<T> (&places)[4], const equikernels::PermuteBox& box) {
  typedef Picked<T> P;
  constexpr int last = registers - 1;
  for (int64_t a = 0; a < box.size[0]; ++a) {
    for (int64_t b = 0; b < box.size[1]; ++b) {
      T* target = to + a * box.to[0] + b * box.to[1];
      const T* source = from + a * box.from[0] + b * box.from[1];
      __m512i v[4] = {};
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) {
        v[r] = r < last ? _mm512_loadu_si512(source + r * P::lanes) : P::load(source + r * P::lanes, places[r].some);
      }
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) {
        __m512i picked = P::pick(v[0], places[r].place, v[1]);
        if (registers > 2) picked = P::blend(places[r].second, picked, P::pick(v[2], places[r].place, v[3]));
        if (r < last) _mm512_storeu_si512(target + r * P::lanes, picked);
        else P::store(target + r * P::lanes, places[r].some, picked);
      }
    }
  }
}

// Moves the box and returns true if it is many small planes, dense on both sides.
template <class T>
inline bool move_planes(T* to, const T* from, const equikernels::PermuteBox& box) {
  constexpr int64_t lanes = Picked<T>::lanes;
  const int64_t rows = box.size[2], columns = box.size[3], down = box.from[2], right = box.from[3];
  const int64_t values = rows * columns;
  // A plane or two take less time than the places.
  if (values > 4 * lanes || box.size[0] * box.size[1] < 8) return false;
  const int64_t step_down = down < 0 ? -down : down, step_right = right < 0 ? -right : right;
  const bool dense = (step_right == 1 && step_down == columns) || (step_down == 1 && step_right == rows);
  if (!dense || box.to[2] != columns || (right == 1 && down == columns)) return false;
  // From the lowest address of a plane.
  const int64_t start = (down < 0 ? (rows - 1) * down : 0) + (right < 0 ? (columns - 1) * right : 0);
  T place[4 * lanes] = {};
  for (int64_t i = 0, p = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) place[p++] = T(i * down + j * right - start);
  }
  Places<T> places[4];
  for (int r = 0; r < 4; ++r) {
    // Only as many bits as two registers have places are looked at; the next one tells the pair.
    places[r].place = _mm512_loadu_si512(place + r * lanes);
    places[r].second = Picked<T>::test(places[r].place, T(2 * lanes));
    const int64_t left = values - r * lanes;
    const uint64_t some = left >= lanes ? ~uint64_t(0) : (uint64_t(1) << (left > 0 ? left : 0)) - 1;
    places[r].some = typename Picked<T>::Mask(some);
  }
  const T* lowest = from + start;
  if (values <= lanes) move_planes_in<T, 1>(to, lowest, places, box);
  else if (values <= 2 * lanes) move_planes_in<T, 2>(to, lowest, places, box);
  else if (values <= 3 * lanes) move_planes_in<T, 3>(to, lowest, places, box);
  else move_planes_in<T, 4>(to, lowest, places, box);
  return true;
}

inline bool move_planes(uint8_t*, const uint8_t*, const equikernels::PermuteBox&) { return false; }
inline bool move_planes(Value16*, const Value16*, const equikernels::PermuteBox&) { return false; }
#else
template <class T>
inline bool move_planes(T*, const T*, const equikernels::PermuteBox&) {
  return false;
}
#endif

}  // namespace
