// The copies of permute_move.h past the caches, for large results whose rows are whole cache lines. Included once by
// every unit of one instruction set; see storage.h.
//
// A large result would throw out what the caches hold, and its memory would be read before it is overwritten.
#pragma once

#include <stdint.h>
#include <string.h>

#include "permute_blocks.h"
#include "permute_move.h"

namespace {

#if defined(__x86_64__)
constexpr bool kStreams = true;
// What other threads read after this is there.
inline void end_stream() { _mm_sfence(); }
#else
constexpr bool kStreams = false;
inline void end_stream() {}
#endif

template <class T>
inline void stream_row(T* to, const T* from, int64_t count) {
  constexpr int64_t lanes = 16 / int64_t(sizeof(T));
  for (int64_t j = 0; j < count; j += lanes) {
    Pair v;
    memcpy(&v, from + j, 16);
    store<true>(to + j, v);
  }
}

template <class T>
inline void stream_reversed_row(T* to, const T* from, int64_t count) {
  constexpr int64_t lanes = 16 / int64_t(sizeof(T));
  for (int64_t j = 0; j < count; j += lanes) reverse_sixteen<true>(to + j, from - j - (lanes - 1));
}

// A strip of the input, as many of its rows as a line of the output holds, is read from one end to the other, and the
// next strip is asked for meanwhile: processors do not foresee that.
template <class T, bool backwards>
inline void stream_transpose(T* to, int64_t rows_to, const T* from, int64_t columns_from, int64_t rows,
                             int64_t columns) {
  constexpr int64_t lanes = Block<T, 1>::lanes, wide = lanes * kSideBySide;
  constexpr int64_t line = kLine / int64_t(sizeof(T));
  const int64_t last = rows - lanes;
  const auto place = [&](int64_t i, int64_t j) { return from + (backwards ? -i : i) + j * columns_from; };
  for (int64_t j0 = 0; j0 < columns; j0 += line) {
    const int64_t next = j0 + line, end = next + line < columns ? next + line : columns;
    for (int64_t i0 = 0; i0 < rows; i0 += line) {
      for (int64_t j = next; j < end; ++j) __builtin_prefetch(place(i0, j));
      for (int64_t above = i0; above < i0 + line && above < rows; above += lanes) {
        // The last rows begin earlier; some are written twice.
        const int64_t i = above < last ? above : last;
        for (int64_t j = j0; j < next; j += wide) {
          transpose_block<T, kSideBySide, backwards, true>(to + i * rows_to + j, rows_to, place(i, j), columns_from);
        }
      }
    }
  }
}

// Whether every row of the result is whole lines, in a way that is written here.
template <class T>
inline bool streams(const T* to, const Box& box, int along) {
  constexpr int64_t lanes = Block<T, 1>::lanes;
  if (!kStreams) return false;
  uint64_t odd = reinterpret_cast<uintptr_t>(to) | uint64_t(box.size[3] * int64_t(sizeof(T)));
  for (int axis = 0; axis < 3; ++axis) odd |= uint64_t(box.to[axis] * int64_t(sizeof(T)));
  if (odd % kLine != 0) return false;
  if (along >= 0) return lanes > 1 && box.size[along] >= lanes;
  return box.from[3] == 1 || (box.from[3] == -1 && lanes > 1);
}

template <class T>
void move_streamed(char* out, const char* z, const Box& given) {
  T* to = reinterpret_cast<T*>(out);
  const T* from = reinterpret_cast<const T*>(z);
  const Box box = simplified(given);
  const int along = contiguous_axis(box);
  if (!streams(to, box, along)) return move<T>(out, z, given);
  const int64_t count = box.size[3], stride = box.from[3];
  int64_t limit[3];
  for (int axis = 0; axis < 3; ++axis) limit[axis] = axis == along ? 1 : box.size[axis];
  for (int64_t a = 0; a < limit[0]; ++a) {
    for (int64_t b = 0; b < limit[1]; ++b) {
      for (int64_t c = 0; c < limit[2]; ++c) {
        T* target = to + a * box.to[0] + b * box.to[1] + c * box.to[2];
        const T* source = from + a * box.from[0] + b * box.from[1] + c * box.from[2];
        if (along < 0 && stride == 1) {
          stream_row(target, source, count);
          continue;
        }
        if constexpr (Block<T, 1>::lanes > 1) {
          if (along < 0) {
            stream_reversed_row(target, source, count);
          } else if (box.from[along] > 0) {
            stream_transpose<T, false>(target, box.to[along], source, stride, box.size[along], count);
          } else {
            stream_transpose<T, true>(target, box.to[along], source, stride, box.size[along], count);
          }
        }
      }
    }
  }
  end_stream();
}

constexpr equikernels::PermuteMovers kMovers = {
    {move<uint8_t>, move<uint16_t>, move<uint32_t>, move<uint64_t>, move<Value16>},
    {move_streamed<uint8_t>, move_streamed<uint16_t>, move_streamed<uint32_t>, move_streamed<uint64_t>,
     move_streamed<Value16>}};

}  // namespace
