// Up to four channels of a plane, and four neighbouring pixels of them at a time.
#pragma once

#include "sample.h"
#include "storage.h"

namespace {

using equikernels::Padding;
using equikernels::SampleJob;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Plane {
  int64_t sample, channel, live;  // channels [channel, channel + live)
  Plane(const SampleJob& job, int64_t index) {
    sample = index / job.plan.groups;
    channel = index % job.plan.groups * 4;
    live = smaller(4, job.channels - channel);
  }
};

template <class T>
struct Block {
  Vector<T> v[4];  // by pixel; a lane is a channel
};

// The first value of a row: `row` counts over all slices.
template <class S>
inline const S* row_of(const equikernels::Volumes& volumes, const SampleJob& job, const Plane& plane, int64_t row) {
  const int64_t* stride = volumes.stride;
  return static_cast<const S*>(volumes.data) + plane.sample * stride[0] + plane.channel * stride[1] +
         row / job.height * stride[2] + row % job.height * stride[3];
}

template <class S>
inline S* output_row(const SampleJob& job, const Plane& plane, int64_t row) {
  const int64_t area = job.plan.rows * job.width;
  return static_cast<S*>(job.out) + (plane.sample * job.channels + plane.channel) * area + row * job.width;
}

// Absent channels and pixels are zero.
template <class S>
inline Block<Compute<S>> load_block(const S* p, int64_t channel, int64_t column, int64_t live, int64_t count) {
  Block<Compute<S>> b;
  if (live == 4 && channel == 1) {  // channels last
    for (int64_t i = 0; i < 4; ++i) b.v[i] = i < count ? load4(p + i * column) : Vector<Compute<S>>{};
    return b;
  }
  if (live == 4 && column == 1 && count >= 4) {  // the usual case, without loops and branches
    b.v[0] = load4(p);
    b.v[1] = load4(p + channel);
    b.v[2] = load4(p + 2 * channel);
    b.v[3] = load4(p + 3 * channel);
  } else {
    for (int64_t i = 0; i < 4; ++i) {
      b.v[i] = i < live ? load_some(p + i * channel, column, count) : Vector<Compute<S>>{};
    }
  }
  transpose4(b.v);
  return b;
}

template <class S>
inline void store_block(S* p, int64_t channel, int64_t live, int64_t count, Block<Compute<S>> b) {
  transpose4(b.v);
  if (live == 4 && count >= 4) {
    store4(p, b.v[0]);
    store4(p + channel, b.v[1]);
    store4(p + 2 * channel, b.v[2]);
    store4(p + 3 * channel, b.v[3]);
    return;
  }
  for (int64_t i = 0; i < live; ++i) store_some(p + i * channel, b.v[i], count);
}

template <class S>
inline void fill_rows(const SampleJob& job, const Plane& plane, int64_t begin, int64_t end, float value) {
  typedef Compute<S> T;
  const int64_t area = job.plan.rows * job.width;
  S* first = output_row<S>(job, plane, begin);
  const int64_t count = (end - begin) * job.width;
  for (int64_t channel = 0; channel < plane.live; ++channel) {
    for (int64_t i = 0; i < count; i += 4) {
      store_some(first + channel * area + i, Vector<T>{} + T(value), count - i);
    }
  }
}

}  // namespace
