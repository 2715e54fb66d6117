// The image in a frame of what the padding says is around it, and the adjoint of that: the frame's
// sums folded back onto the image.
#pragma once

#include "sample_block.h"

namespace {

// The pixel that stands for index i of an axis with n pixels; -1 where that is a zero.
inline int64_t stand_in(int64_t i, int64_t n, Padding padding) {
  if (i >= 0 && i < n) return i;
  if (padding == Padding::zeros) return -1;
  if (padding == Padding::border) return i < 0 ? 0 : n - 1;
  const int64_t place = ((i % (2 * n)) + 2 * n) % (2 * n);
  return place < n ? place : 2 * n - 1 - place;
}

// Rows [begin, end) of the frame, counted over its slices.
template <class S>
void fill_frame(const SampleJob& job, int64_t index, int64_t begin, int64_t end, char* memory) {
  typedef Vector<Compute<S>> Pixel;
  const Plane plane(job, index);
  const auto& plan = job.plan;
  const int64_t margin = plan.margin, width = job.width;
  const int64_t channel = job.z.stride[1], column = job.z.stride[4];
  for (int64_t row = begin; row < end; ++row) {
    Pixel* line = reinterpret_cast<Pixel*>(memory) + row * plan.pitch;
    const int64_t y = stand_in(row % plan.lines - margin, job.height, job.padding);
    const int64_t z = stand_in(row / plan.lines - plan.depth_margin, job.depth, job.padding);
    if (y < 0 || z < 0) {
      memset(line, 0, size_t(plan.pitch) * sizeof(Pixel));
      continue;
    }
    const S* from = row_of<S>(job.z, job, plane, z * job.height + y);
    Pixel* to = line + margin;
    int64_t x = 0;
    for (; x + 4 <= width; x += 4) {
      const auto b = load_block(from + x * column, channel, column, plane.live, 4);
      for (int i = 0; i < 4; ++i) to[x + i] = b.v[i];
    }
    if (x < width) {
      const auto rest = load_block(from + x * column, channel, column, plane.live, width - x);
      for (int i = 0; x + i < width; ++i) to[x + i] = rest.v[i];
    }
    for (int64_t i = 1; i <= margin; ++i) {
      const int64_t left = stand_in(-i, width, job.padding), right = stand_in(width + i - 1, width, job.padding);
      to[-i] = left < 0 ? Pixel{} : to[left];
      to[width + i - 1] = right < 0 ? Pixel{} : to[right];
    }
  }
}

// Adds the margins of an axis to the pixels they stand for: `outer` times `n` framed places of
// `inner` pixels each.
template <class Pixel>
inline void fold(Pixel* frame, int64_t outer, int64_t n, int64_t margin, int64_t inner, Padding padding) {
  const int64_t framed = n + 2 * margin;
  for (int64_t o = 0; o < outer; ++o) {
    Pixel* origin = frame + (o * framed + margin) * inner;
    for (int64_t i = 1; i <= margin; ++i) {
      for (int side = 0; side < 2; ++side) {
        const int64_t place = side == 0 ? -i : n + i - 1;
        const Pixel* from = origin + place * inner;
        Pixel* to = origin + stand_in(place, n, padding) * inner;
        for (int64_t k = 0; k < inner; ++k) to[k] += from[k];
      }
    }
  }
}

template <class S>
void finish_frame(const SampleJob& job, const Plane& plane, char* memory) {
  typedef Compute<S> T;
  typedef Vector<T> Pixel;
  const auto& plan = job.plan;
  Pixel* frame = reinterpret_cast<Pixel*>(memory);
  if (job.padding != Padding::zeros) {
    fold(frame, plan.slices * plan.lines, job.width, plan.margin, 1, job.padding);
    fold(frame, plan.slices, job.height, plan.margin, plan.pitch, job.padding);
    fold(frame, 1, job.depth, plan.depth_margin, plan.lines * plan.pitch, job.padding);
  }
  const int64_t area = plan.rows * job.width;
  for (int64_t row = 0; row < plan.rows; ++row) {
    const int64_t slice = row / job.height + plan.depth_margin, line = row % job.height + plan.margin;
    const Pixel* from = frame + (slice * plan.lines + line) * plan.pitch + plan.margin;
    S* to = output_row<S>(job, plane, row);
    for (int64_t x = 0; x < job.width; x += 4) {
      // Reading past the end of a row stays within the frame's memory.
      store_block(to + x, area, plane.live, job.width - x, Block<T>{{from[x], from[x + 1], from[x + 2], from[x + 3]}});
    }
  }
}

}  // namespace
