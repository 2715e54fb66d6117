// A scratch image: part of an image in a frame of zeros, with the memory layout the kernels like.
#pragma once

#include "rotate_geometry.h"
#include "storage.h"

namespace {

template <class S>
inline const S* image_of(const equikernels::Images& images, int64_t sample, int64_t channel) {
  return static_cast<const S*>(images.data) + sample * images.stride[0] + channel * images.stride[1];
}

template <class S>
inline S* plane_of(const RotateJob& job, const Unit& unit) {
  return static_cast<S*>(job.out) + (unit.sample * job.channels + unit.channel) * job.height * job.width;
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

template <class S>
inline void fill_columns(S* row, int64_t plane, int64_t live, int64_t begin, int64_t end, float value) {
  typedef Compute<S> T;
  const Vector<T> v = Vector<T>{} + T(value);
  for (int64_t channel = 0; channel < live; ++channel) {
    for (int64_t x = begin; x < end; x += 4) store_some(row + channel * plane + x, v, end - x);
  }
}

template <class S>
inline void fill_tile(const RotateJob& job, const Unit& unit, float value) {
  const int64_t plane = job.height * job.width;
  S* out = plane_of<S>(job, unit);
  const Box& tile = unit.tile;
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    fill_columns(out + y * job.width, plane, unit.live, tile.x, tile.x + tile.width, value);
  }
}

}  // namespace
