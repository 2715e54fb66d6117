// Up to four channels at once: a scratch pixel is a vector of channels, so a tap is one vector load
// and its weight one broadcast.
//
// Both layouts (see rotate_plane.h for the other) offer the same operations on Blocks, which hold
// four neighbouring pixels of a row.
#pragma once

#include "rotate_scratch.h"

namespace {

// By pixel, a vector of channels each.
template <class V>
struct Quad {
  V v[4];
};
template <class V>
EQUIKERNELS_INLINE Quad<V> operator+(const Quad<V>& a, const Quad<V>& b) {
  return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}};
}
template <class V>
EQUIKERNELS_INLINE Quad<V> operator-(const Quad<V>& a, const Quad<V>& b) {
  return {{a.v[0] - b.v[0], a.v[1] - b.v[1], a.v[2] - b.v[2], a.v[3] - b.v[3]}};
}
template <class V>
EQUIKERNELS_INLINE Quad<V> operator*(const Quad<V>& a, const Quad<V>& b) {
  return {{a.v[0] * b.v[0], a.v[1] * b.v[1], a.v[2] * b.v[2], a.v[3] * b.v[3]}};
}

template <class S>
struct Channels {
  typedef Compute<S> T;
  typedef Vector<T> Pixel;
  typedef Quad<Pixel> Block;
  typedef Frame<Pixel> Scratch;

  static EQUIKERNELS_INLINE Block every(T value) {
    const Pixel v = Pixel{} + value;
    return {{v, v, v, v}};
  }

  // Absent channels and pixels are zero. G is the storage of any tensor computed in T.
  template <class G>
  static EQUIKERNELS_INLINE Block load(const Planes<const G>& from, int64_t offset, int64_t count) {
    Block b;
    if (from.live == 4 && from.column == 1 && count >= 4) {  // the usual case, without loops
      b.v[0] = load4(from.at[0] + offset);
      b.v[1] = load4(from.at[1] + offset);
      b.v[2] = load4(from.at[2] + offset);
      b.v[3] = load4(from.at[3] + offset);
    } else if (from.adjacent) {
      const G* p = from.at[0] + offset;
      for (int64_t i = 0; i < 4; ++i) b.v[i] = i < count ? load4(p + i * from.column) : Pixel{};
      return b;
    } else {
      for (int64_t i = 0; i < 4; ++i) {
        b.v[i] = i < from.live ? load_some(from.at[i] + offset, from.column, count) : Pixel{};
      }
    }
    transpose4(b.v);
    return b;
  }

  template <class G>
  static EQUIKERNELS_INLINE void store(const Planes<G>& to, int64_t offset, int64_t count, Block b) {
    transpose4(b.v);
    if (to.live == 4 && count >= 4) {
      store4(to.at[0] + offset, b.v[0]);
      store4(to.at[1] + offset, b.v[1]);
      store4(to.at[2] + offset, b.v[2]);
      store4(to.at[3] + offset, b.v[3]);
      return;
    }
    for (int64_t i = 0; i < to.live; ++i) store_some(to.at[i] + offset, b.v[i], count);
  }

  static EQUIKERNELS_INLINE Block gather(const Scratch& image, const uint32_t* offset, const T (&w)[4][kStrip], int i) {
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

  static EQUIKERNELS_INLINE void scatter(Scratch& sum, const uint32_t* offset, const T (&w)[4][kStrip], int i, const Block& b) {
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

  // What copy_in put there for four pixels of the image, given where they are in it.
  static EQUIKERNELS_INLINE Block copied(const Scratch& image, int64_t row, int64_t column) {
    const Pixel* p = image.data + (row + kMargin) * image.pitch + column + kMargin;
    return {{p[0], p[1], p[2], p[3]}};
  }

  // Zero but for the pixels [begin, end).
  static EQUIKERNELS_INLINE Block keep(Block b, int begin, int end) {
    for (int k = 0; k < 4; ++k) b.v[k] = k >= begin && k < end ? b.v[k] : Pixel{};
    return b;
  }

  static EQUIKERNELS_INLINE Pixel total(const Block& b) { return (b.v[0] + b.v[1]) + (b.v[2] + b.v[3]); }
  static EQUIKERNELS_INLINE Pixel product(const Block& a, const Block& b) { return total(a * b); }

  // The sums of each channel, of a vector that was added up from totals.
  static EQUIKERNELS_INLINE void by_channel(Vector<double> sum, double (&out)[4]) {
    for (int i = 0; i < 4; ++i) out[i] = sum[i];
  }

  // The margins of the scratch image survive from one group to the next: only the `first` one clears them.
  template <class G>
  static void copy_in(Scratch image, const Planes<const G> from, bool first) {
    if (first) image.clear_margins();
    const Box box = image.box;
    const int64_t whole = box.width - 4;
    for (int64_t y = 0; y < box.height; ++y) {
      Pixel* to = image.row(y);
      const int64_t start = (box.y + y) * from.row + box.x * from.column;
      int64_t x = 0;
      for (; x <= whole; x += 4) put(to + x, load(from, start + x * from.column, 4));
      if (x == box.width) continue;
      // The last block of a row repeats some pixels of the one before it.
      if (whole >= 0) {
        put(to + whole, load(from, start + whole * from.column, 4));
      } else {
        const Block b = load(from, start, box.width);
        for (int i = 0; i < box.width; ++i) to[i] = b.v[i];
      }
    }
  }

  static void copy_out(const Scratch sum, const Planes<S> to) {
    const Box box = sum.box;
    const int64_t whole = box.width - 4;
    for (int64_t y = 0; y < box.height; ++y) {
      const Pixel* from = sum.data + (y + kMargin) * sum.pitch + kMargin;
      const int64_t start = (box.y + y) * to.row + box.x;
      int64_t x = 0;
      for (; x <= whole; x += 4) store(to, start + x, 4, Block{{from[x], from[x + 1], from[x + 2], from[x + 3]}});
      if (x == box.width) continue;
      // The frame makes reading past the end of a narrow row harmless.
      const int64_t k = whole >= 0 ? whole : 0;
      store(to, start + k, box.width - k, Block{{from[k], from[k + 1], from[k + 2], from[k + 3]}});
    }
  }

 private:
  static EQUIKERNELS_INLINE void put(Pixel* to, const Block& b) {
    for (int i = 0; i < 4; ++i) to[i] = b.v[i];
  }
};

}  // namespace
