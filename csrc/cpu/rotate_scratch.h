// Channels of a tensor that are worked on together, and scratch images: part of an image in a frame of
// zeros, with the memory layout the kernels like.
#pragma once

#include "rotate_geometry.h"
#include "storage.h"

namespace {

// Up to four channels of one sample, of a tensor with any strides. P is S or const S.
template <class P>
struct Planes {
  P* at[4];  // those beyond the live ones repeat the first
  int64_t row, column;  // strides
  int64_t live;
  bool adjacent;  // one channel lies next to the other in memory, as in channels last
};

struct Group {
  int64_t live, channel[4];
};

// Neighbouring channels, as many as a unit has from `first` on.
inline Group group_from(const Unit& unit, int64_t first, int64_t lanes) {
  Group group{smaller(lanes, unit.channel + unit.channels - first), {}};
  for (int64_t i = 0; i < 4; ++i) group.channel[i] = first + i;
  return group;
}

template <class S>
inline Planes<const S> planes_of(const equikernels::Images& images, int64_t sample, const Group& group) {
  Planes<const S> planes;
  const S* data = static_cast<const S*>(images.data) + sample * images.stride[0];
  planes.adjacent = group.live == 4 && images.stride[1] == 1;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t channel = i < group.live ? group.channel[i] : group.channel[0];
    planes.at[i] = data + channel * images.stride[1];
    planes.adjacent = planes.adjacent && channel == group.channel[0] + i;
  }
  planes.row = images.stride[2];
  planes.column = images.stride[3];
  planes.live = group.live;
  return planes;
}

// Of a contiguous result of the shape of z.
template <class S>
inline Planes<S> planes_to(const RotateJob& job, void* data, int64_t sample, const Group& group) {
  Planes<S> planes;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t channel = i < group.live ? group.channel[i] : group.channel[0];
    planes.at[i] = static_cast<S*>(data) + (sample * job.channels + channel) * job.height * job.width;
  }
  planes.row = job.width;
  planes.column = 1;
  planes.live = group.live;
  planes.adjacent = false;
  return planes;
}

inline int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

template <class Pixel>
struct Frame {
  Pixel* data;
  Box box;
  int64_t pitch, rows;

  Frame(char* memory, const Box& content) : data(reinterpret_cast<Pixel*>(memory)), box(content) {
    pitch = box.width + 2 * kMargin;
    rows = box.height + 2 * kMargin;
  }

  char* end() const { return reinterpret_cast<char*>(data) + round_up(rows * pitch * int64_t(sizeof(Pixel))); }
  void clear() { memset(data, 0, size_t(rows * pitch) * sizeof(Pixel)); }
  Pixel* row(int64_t y) { return data + (y + kMargin) * pitch + kMargin; }

  void clear_margins() {
    memset(data, 0, size_t(kMargin * pitch) * sizeof(Pixel));
    memset(row(box.height) - kMargin, 0, size_t(kMargin * pitch) * sizeof(Pixel));
    for (int64_t y = 0; y < box.height; ++y) {
      Pixel* line = row(y);
      for (int64_t i = 1; i <= kMargin; ++i) line[-i] = line[box.width + i - 1] = Pixel{};
    }
  }
};

template <class Pixel>
inline Pixel* at(Pixel* data, uint32_t bytes) {
  return reinterpret_cast<Pixel*>(reinterpret_cast<char*>(data) + bytes);
}
template <class Pixel>
inline const Pixel* at(const Pixel* data, uint32_t bytes) {
  return reinterpret_cast<const Pixel*>(reinterpret_cast<const char*>(data) + bytes);
}

// The columns [begin, end) of row y of a result.
template <class S>
inline void fill_columns(const Planes<S>& to, int64_t y, int64_t begin, int64_t end, float value) {
  typedef Compute<S> T;
  const Vector<T> v = Vector<T>{} + T(value);
  for (int64_t i = 0; i < to.live; ++i) {
    S* row = to.at[i] + y * to.row;
    for (int64_t x = begin; x < end; x += 4) store_some(row + x, v, end - x);
  }
}

template <class S>
__attribute__((noinline)) void fill_tile(const Planes<S>& to, const Box& tile, float value) {
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) fill_columns(to, y, tile.x, tile.x + tile.width, value);
}

}  // namespace
