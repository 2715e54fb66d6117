// A single channel: a scratch pixel is the vector of the four taps (upper left, upper right, lower
// left, lower right) of the cell that begins there. One load brings all taps of an output pixel, and
// in the adjoint one addition serves them; neighbouring pixels then add to different places and do
// not wait for each other.
#pragma once

#include "rotate_scratch.h"

namespace {

template <class S>
struct Plane {
  typedef Compute<S> T;
  typedef Vector<T> Pixel;
  typedef Pixel Block;  // four pixels
  typedef Frame<Pixel> Scratch;

  static EQUIKERNELS_INLINE Block every(T value) { return Block{} + value; }

  template <class G>
  static EQUIKERNELS_INLINE Block load(const Planes<const G>& from, int64_t offset, int64_t count) {
    return load_some(from.at[0] + offset, from.column, count);
  }

  template <class G>
  static EQUIKERNELS_INLINE void store(const Planes<G>& to, int64_t offset, int64_t count, Block b) {
    store_some(to.at[0] + offset, b, count);
  }

  static EQUIKERNELS_INLINE Pixel four(const T* p) { return load_unaligned<Pixel>(p); }

  static EQUIKERNELS_INLINE Block gather(const Scratch& image, const uint32_t* offset, const T (&w)[4][kStrip], int i) {
    Pixel cell[4];
    for (int k = 0; k < 4; ++k) cell[k] = *at(image.data, offset[i + k]);
    transpose4(cell);
    return (cell[0] * four(w[0] + i) + cell[1] * four(w[1] + i)) + (cell[2] * four(w[2] + i) + cell[3] * four(w[3] + i));
  }

  static EQUIKERNELS_INLINE void scatter(Scratch& sum, const uint32_t* offset, const T (&w)[4][kStrip], int i, Block b) {
    Pixel cell[4];
    for (int k = 0; k < 4; ++k) cell[k] = b * four(w[k] + i);
    transpose4(cell);
    for (int k = 0; k < 4; ++k) *at(sum.data, offset[i + k]) += cell[k];
  }

  static EQUIKERNELS_INLINE Block copied(const Scratch& image, int64_t row, int64_t column) {
    const Pixel* p = image.data + (row + kMargin) * image.pitch + column + kMargin;
    return Block{p[0][0], p[1][0], p[2][0], p[3][0]};
  }

  static EQUIKERNELS_INLINE Block keep(Block b, int begin, int end) {
    for (int k = 0; k < 4; ++k) b[k] = k >= begin && k < end ? b[k] : T(0);
    return b;
  }

  static EQUIKERNELS_INLINE Pixel total(Block b) { return b; }
  static EQUIKERNELS_INLINE Pixel product(Block a, Block b) { return a * b; }
  static EQUIKERNELS_INLINE void by_channel(Vector<double> sum, double (&out)[4]) { out[0] = sum_lanes(sum); }

  template <class G>
  static void copy_in(Scratch& image, const Planes<const G>& from, bool) {
    const Box& box = image.box;
    Frame<T> flat(image.end(), box);
    flat.clear_margins();
    const G* line = from.at[0] + box.y * from.row + box.x * from.column;
    for (int64_t y = 0; y < box.height; ++y, line += from.row) {
      T* to = flat.row(y);
      int64_t x = 0;
      for (; x + 4 <= box.width; x += 4) store4(to + x, load_some(line + x * from.column, from.column, 4));
      const Pixel rest = load_some(line + x * from.column, from.column, box.width - x);
      for (int64_t i = 0; x + i < box.width; ++i) to[x + i] = rest[i];
    }
    // Cells of the whole frame but for its last row and column, which no clamped position reaches.
    // A pitch is at least 5, and the last block of a row may overlap the one before it.
    for (int64_t y = 0; y + 1 < image.rows; ++y) {
      const T* upper = flat.data + y * flat.pitch;
      const T* lower = upper + flat.pitch;
      Pixel* cells = image.data + y * image.pitch;
      for (int64_t x = 0; x + 1 < image.pitch; x += 4) {
        const int64_t begin = smaller(x, image.pitch - 5);
        Pixel block[4] = {four(upper + begin), four(upper + begin + 1), four(lower + begin), four(lower + begin + 1)};
        transpose4(block);
        for (int k = 0; k < 4; ++k) cells[begin + k] = block[k];
      }
    }
  }

  // A pixel collects from the four cells it is a tap of.
  static void copy_out(Scratch& sum, const Planes<S>& target) {
    const Box& box = sum.box;
    S* to = target.at[0] + box.y * target.row + box.x;
    for (int64_t y = 0; y < box.height; ++y, to += target.row) {
      const Pixel* here = sum.row(y) - 1;
      const Pixel* above = here - sum.pitch;
      for (int64_t x = 0; x < box.width; x += 4) {
        Pixel block[4];
        for (int k = 0; k < 4; ++k) {
          const Pixel upper = __builtin_shufflevector(here[x + k + 1], here[x + k], 0, 5, 2, 3);
          const Pixel lower = __builtin_shufflevector(above[x + k + 1], above[x + k], 0, 1, 2, 7);
          block[k] = __builtin_shufflevector(upper, lower, 0, 1, 6, 7);
        }
        transpose4(block);
        store_some(to + x, (block[0] + block[1]) + (block[2] + block[3]), box.width - x);
      }
    }
  }
};

}  // namespace
