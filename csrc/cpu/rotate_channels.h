// Up to four channels at once: a scratch pixel is a vector of channels, so a tap is one vector load
// and its weight one broadcast.
//
// Both layouts (see rotate_plane.h for the other) offer the same operations on Blocks, which hold
// four neighbouring pixels of a row.
#pragma once

#include "rotate_scratch.h"

namespace {

template <class S>
struct Channels {
  typedef Compute<S> T;
  typedef Vector<T> Pixel;
  struct Block {
    Pixel v[4];  // by pixel
  };
  typedef Frame<Pixel> Scratch;

  // Absent channels and pixels are zero.
  static inline Block load(const S* p, const int64_t* stride, int64_t live, int64_t count) {
    Block b;
    if (live == 4 && stride[3] == 1 && count >= 4) {  // the usual case, without loops and branches
      b.v[0] = load4(p);
      b.v[1] = load4(p + stride[1]);
      b.v[2] = load4(p + 2 * stride[1]);
      b.v[3] = load4(p + 3 * stride[1]);
    } else if (live == 4 && stride[1] == 1) {  // channels last
      for (int64_t i = 0; i < 4; ++i) b.v[i] = i < count ? load4(p + i * stride[3]) : Pixel{};
      return b;
    } else {
      for (int64_t i = 0; i < 4; ++i) b.v[i] = i < live ? load_some(p + i * stride[1], stride[3], count) : Pixel{};
    }
    transpose4(b.v);
    return b;
  }

  static inline void store(S* p, int64_t plane, int64_t live, int64_t count, Block b) {
    transpose4(b.v);
    if (live == 4 && count >= 4) {
      store4(p, b.v[0]);
      store4(p + plane, b.v[1]);
      store4(p + 2 * plane, b.v[2]);
      store4(p + 3 * plane, b.v[3]);
      return;
    }
    for (int64_t i = 0; i < live; ++i) store_some(p + i * plane, b.v[i], count);
  }

  static inline Block gather(const Scratch& image, const uint32_t* offset, const T (&w)[4][kStrip], int i) {
    const Pixel* upper = image.data;
    const Pixel* lower = image.data + image.pitch;
    Block b;
    for (int k = 0; k < 4; ++k) {
      const Pixel* p = at(upper, offset[i + k]);
      const Pixel* q = at(lower, offset[i + k]);
      b.v[k] = (p[0] * w[0][i + k] + p[1] * w[1][i + k]) + (q[0] * w[2][i + k] + q[1] * w[3][i + k]);
    }
    return b;
  }

  static inline void scatter(Scratch& sum, const uint32_t* offset, const T (&w)[4][kStrip], int i, const Block& b) {
    Pixel* upper = sum.data;
    Pixel* lower = sum.data + sum.pitch;
    for (int k = 0; k < 4; ++k) {
      Pixel* p = at(upper, offset[i + k]);
      Pixel* q = at(lower, offset[i + k]);
      p[0] += b.v[k] * w[0][i + k];
      p[1] += b.v[k] * w[1][i + k];
      q[0] += b.v[k] * w[2][i + k];
      q[1] += b.v[k] * w[3][i + k];
    }
  }

  static inline Pixel product(const Block& a, const Block& b) {
    return (a.v[0] * b.v[0] + a.v[1] * b.v[1]) + (a.v[2] * b.v[2] + a.v[3] * b.v[3]);
  }

  static void copy_in(Scratch& image, const equikernels::Images& images, const Unit& unit) {
    image.clear_margins();
    const Box& box = image.box;
    const int64_t* stride = images.stride;
    const S* from = image_of<S>(images, unit.sample, unit.channel) + box.y * stride[2] + box.x * stride[3];
    for (int64_t y = 0; y < box.height; ++y, from += stride[2]) {
      Pixel* to = image.row(y);
      int64_t x = 0;
      for (; x + 4 <= box.width; x += 4) {
        const Block b = load(from + x * stride[3], stride, unit.live, 4);
        for (int i = 0; i < 4; ++i) to[x + i] = b.v[i];
      }
      if (x == box.width) continue;
      const Block rest = load(from + x * stride[3], stride, unit.live, box.width - x);
      for (int i = 0; x + i < box.width; ++i) to[x + i] = rest.v[i];
    }
  }

  static void copy_out(Scratch& sum, const RotateJob& job, const Unit& unit) {
    const Box& box = sum.box;
    const int64_t plane = job.height * job.width;
    S* to = plane_of<S>(job, unit) + box.y * job.width + box.x;
    for (int64_t y = 0; y < box.height; ++y, to += job.width) {
      const Pixel* from = sum.row(y);
      for (int64_t x = 0; x < box.width; x += 4) {
        // The frame makes reading past the end of a row harmless.
        store(to + x, plane, unit.live, box.width - x, Block{{from[x], from[x + 1], from[x + 2], from[x + 3]}});
      }
    }
  }
};

}  // namespace
