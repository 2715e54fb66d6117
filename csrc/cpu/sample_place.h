// Where the pixels of a strip come from: the cell of each in the frame, and the weights of the taps
// of its cell for a value, for derivatives along directions, and for the slopes along the axes.
#pragma once

#include <math.h>

#include "sample_block.h"

namespace {

constexpr int kStrip = 64;
constexpr int kStripRound = 16;  // strips are computed in whole vectors

constexpr int power(int base, int exponent) { return exponent == 0 ? 1 : base * power(base, exponent - 1); }

// Rows of a matrix, which turn a row of pixels into a start and a step along x.
template <class T, int D>
struct Affine {
  T entry[D][D + 1];

  Affine() = default;
  Affine(const void* data, int64_t row, int64_t column) {
    const T* p = static_cast<const T*>(data);
    for (int a = 0; a < D; ++a) {
      for (int b = 0; b <= D; ++b) entry[a][b] = p[a * row + b * column];
    }
  }
  bool finite() const {
    bool all = true;
    for (int a = 0; a < D; ++a) {
      for (int b = 0; b <= D; ++b) all = all && __builtin_isfinite(entry[a][b]);
    }
    return all;
  }
  T start(int axis, T y, T z) const {
    const T rest = D == 3 ? entry[axis][1] * y + entry[axis][2] * z : entry[axis][1] * y;
    return rest + entry[axis][D];
  }
};

template <class T, int D>
inline Affine<T, D> matrix_of(const SampleJob& job, int64_t sample) {
  const int64_t* stride = job.matrix_stride;
  return Affine<T, D>(static_cast<const T*>(job.matrix) + sample * stride[0], stride[1], stride[2]);
}

template <class T, int D, int N>
struct Strip {
  static constexpr int kTaps = power(N, D);
  alignas(64) uint32_t cell[kStrip];  // pixel of the frame that is the first tap
  alignas(64) T x[kStrip];            // the output's place, from the centre
  // By axis: how far into its cell a place falls, and -1 where the padding mirrors the axis there.
  alignas(64) T part[D][kStrip];
  alignas(64) T sign[D][kStrip];
  // By axis and order of derivative, the weight of each tap; by monomial, see Placer.
  alignas(64) T weight[D][N][N][kStrip];
  alignas(64) T monomial[kTaps][kStrip];
  alignas(64) T tap[kTaps][kStrip];
  alignas(64) T slope[D][kTaps][kStrip];
};

// Keys' cubic convolution with A = -3/4 for the taps at -1, 0, 1 and 2, differentiated `order` times.
template <class T>
inline void cubic(T r, int order, T w[4]) {
  const T a = T(-0.75);
  const T s = 1 - r;
  if (order == 0) {
    w[0] = a * r * s * s;
    w[1] = ((a + 2) * r - (a + 3)) * r * r + 1;
    w[2] = ((a + 2) * s - (a + 3)) * s * s + 1;
    w[3] = a * s * r * r;
  } else if (order == 1) {
    w[0] = a * s * (s - 2 * r);
    w[1] = (3 * (a + 2) * r - 2 * (a + 3)) * r;
    w[2] = -(3 * (a + 2) * s - 2 * (a + 3)) * s;
    w[3] = a * r * (2 * s - r);
  } else if (order == 2) {
    w[0] = a * (6 * r - 4);
    w[1] = 6 * (a + 2) * r - 2 * (a + 3);
    w[2] = 6 * (a + 2) * s - 2 * (a + 3);
    w[3] = a * (6 * s - 4);
  } else {
    w[0] = 6 * a;
    w[1] = 6 * (a + 2);
    w[2] = -6 * (a + 2);
    w[3] = -6 * a;
  }
}

// Fills strips of one sample. A derivative along directions v_1..v_k is a polynomial in the
// derivatives along the axes, the product of the v_i . grad; only exponents below the number of taps
// matter, for higher derivatives along an axis are zero. Monomials are numbered like taps, x first.
template <class T, int D, int N>
struct Placer {
  typedef Strip<T, D, N> S;
  static constexpr int kTaps = S::kTaps;
  static constexpr int kMostOrders = D * (N - 1);

  const SampleJob& job;
  Affine<T, D> matrix;
  Affine<T, D> direction[kMostOrders > 0 ? kMostOrders : 1];
  T centre[3];
  int64_t size[3], margin[3];
  int order;  // of the derivative; more than kMostOrders make everything zero
  bool defined;

  Placer(const SampleJob& j, int64_t sample) : job(j), matrix(matrix_of<T, D>(j, sample)) {
    defined = matrix.finite();
    order = int(smaller(job.order, kMostOrders + 1));
    const int64_t* stride = job.direction_stride;
    for (int k = 0; k < order && order <= kMostOrders; ++k) {
      const T* data = static_cast<const T*>(job.directions) + k * stride[0] + sample * stride[1];
      direction[k] = Affine<T, D>(data, stride[2], stride[3]);
    }
    const int64_t sizes[3] = {job.width, job.height, job.depth};
    for (int a = 0; a < 3; ++a) {
      size[a] = sizes[a];
      margin[a] = a < 2 ? job.plan.margin : job.plan.depth_margin;
      centre[a] = T(sizes[a] - 1) / 2;
    }
  }

  bool vanishes(int more) const { return order + more > kMostOrders; }

  // Of `count` pixels of an output row, from a column on.
  template <bool kValues, bool kSlopes>
  void fill(S& strip, int64_t row, int64_t column, int count) const {
    const int padded = (count + kStripRound - 1) / kStripRound * kStripRound;
    const T first = T(column) - centre[0];
    const T y = T(row % job.height) - centre[1], z = T(row / job.height) - centre[2];
    locate(strip, first, y, z, padded);
    const int most = (order + (kSlopes ? 1 : 0)) < N - 1 ? (order + (kSlopes ? 1 : 0)) : N - 1;
    for (int a = 0; a < D; ++a) weigh(strip, a, most, padded);
    if (order > 0) expand(strip, first, y, z, padded);
    if (kValues) values(strip, padded);
    if (kSlopes) slopes(strip, padded);
  }

 private:
  // Never inlined: compiled once, it rounds alike in every kernel, so that all of them agree on the
  // cell of a place. On the border of two cells derivatives would otherwise belong to different cells.
  __attribute__((noinline)) void locate(S& strip, T first, T y, T z, int padded) const {
    for (int i = 0; i < padded; ++i) strip.x[i] = first + T(i);
    for (int i = 0; i < padded; ++i) strip.cell[i] = 0;
    const uint32_t pixels[3] = {uint32_t(job.plan.pitch), uint32_t(job.plan.lines), 1};
    for (int a = D - 1; a >= 0; --a) {
      const uint32_t step = a == D - 1 ? 0 : pixels[a];
      const T slope = matrix.entry[a][0], start = matrix.start(a, y, z);
      if (job.padding == Padding::reflection) {
        mirror(strip, a, slope, start, step, padded);
      } else {
        clamp(strip, a, slope, start, step, padded);
      }
    }
  }

  static inline T cell_of(T u) { return N == 1 ? __builtin_rint(u) : __builtin_floor(u); }

  // Whatever lies farther out sees nothing but margin, and margins are wide enough for all taps of it
  // to lie there. A place that is not a number, which overflow can make, counts as far left.
  void clamp(S& strip, int a, T slope, T start, uint32_t step, int padded) const {
    const int shift = N == 4 ? 1 : 0;
    const T low = T(shift - margin[a]), high = T(size[a] + margin[a] - N + shift), middle = centre[a];
    const int32_t origin = int32_t(margin[a]) - shift;
    for (int i = 0; i < padded; ++i) {
      T u = (slope * strip.x[i] + start) + middle;
      u = u > low ? u : low;
      u = u < high ? u : high;
      const T corner = cell_of(u);
      strip.cell[i] = strip.cell[i] * step + uint32_t(int32_t(corner) + origin);
      strip.part[a][i] = u - corner;
      strip.sign[a][i] = 1;
    }
  }

  // The image continues as its mirror image, so within a mirrored period the taps come in reverse. Cells
  // are reduced as numbers, which for enormous ones may err, but is cut to a pixel of the image.
  void mirror(S& strip, int a, T slope, T start, uint32_t step, int padded) const {
    const int shift = N == 4 ? 1 : 0;
    const T limit = T(1e18), length = T(size[a]), period = 2 * length, last = period - 1, middle = centre[a];
    const int32_t origin = int32_t(margin[a]) - shift;
    const T reverse = period - T(N) + T(2 * shift);
    for (int i = 0; i < padded; ++i) {
      T u = (slope * strip.x[i] + start) + middle;
      u = u > -limit ? u : -limit;
      u = u < limit ? u : limit;
      const T corner = cell_of(u), part = u - corner;
      T reduced = corner - period * __builtin_floor(corner / period);
      reduced = reduced > 0 ? reduced : 0;
      reduced = reduced < last ? reduced : last;
      const bool mirrored = reduced >= length;
      reduced = mirrored ? reverse - reduced : reduced;
      strip.cell[i] = strip.cell[i] * step + uint32_t(int32_t(reduced) + origin);
      strip.part[a][i] = mirrored ? 1 - part : part;
      strip.sign[a][i] = mirrored ? T(-1) : T(1);
    }
  }

  static inline void weigh(S& strip, int a, int most, int padded) {
    if (N == 1) return;
    for (int order = 0; order <= most; ++order) {
      T(&w)[N][kStrip] = strip.weight[a][order];
      if (N == 2) {
        for (int i = 0; i < padded; ++i) {
          w[0][i] = order == 0 ? 1 - strip.part[a][i] : T(-1);
          w[1][i] = order == 0 ? strip.part[a][i] : T(1);
        }
      } else {
        for (int i = 0; i < padded; ++i) {
          T each[4];
          cubic(strip.part[a][i], order, each);
          for (int t = 0; t < N; ++t) w[t][i] = each[t];
        }
      }
    }
  }

  static constexpr int exponent(int monomial, int axis) { return monomial / power(N, axis) % N; }
  static int degree(int monomial) {
    int sum = 0;
    for (int a = 0; a < D; ++a) sum += exponent(monomial, a);
    return sum;
  }

  // Multiplies one direction after the other; monomials of a degree only depend on those one lower,
  // which have smaller numbers.
  void expand(S& strip, T first, T y, T z, int padded) const {
    for (int i = 0; i < padded; ++i) strip.monomial[0][i] = 1;
    for (int k = 0; k < order; ++k) {
      T speed[D][kStrip];
      for (int a = 0; a < D; ++a) {
        const T slope = direction[k].entry[a][0], start = direction[k].start(a, y, z);
        for (int i = 0; i < padded; ++i) speed[a][i] = strip.sign[a][i] * (slope * (first + T(i)) + start);
      }
      for (int m = kTaps - 1; m > 0; --m) {
        if (degree(m) != k + 1) continue;
        bool fresh = true;
        for (int a = 0; a < D; ++a) {
          if (exponent(m, a) == 0) continue;
          const T(&lower)[kStrip] = strip.monomial[m - power(N, a)];
          for (int i = 0; i < padded; ++i) {
            strip.monomial[m][i] = (fresh ? 0 : strip.monomial[m][i]) + speed[a][i] * lower[i];
          }
          fresh = false;
        }
      }
    }
  }

  // out += (or =) the weights of monomial m, times a factor.
  template <bool kAdd, class Factor>
  static inline void product(const S& strip, T (&out)[kTaps][kStrip], int m, Factor factor, int padded) {
    const auto& wx = strip.weight[0][exponent(m, 0)];
    const auto& wy = strip.weight[1][exponent(m, 1)];
    for (int tz = 0; tz < (D == 3 ? N : 1); ++tz) {
      for (int ty = 0; ty < N; ++ty) {
        T(*rows)[kStrip] = out + (tz * N + ty) * N;
        for (int i = 0; i < padded; ++i) {
          T outer = factor(i) * wy[ty][i];
          if (D == 3) outer *= strip.weight[D - 1][exponent(m, D - 1)][tz][i];
          for (int tx = 0; tx < N; ++tx) rows[tx][i] = (kAdd ? rows[tx][i] : 0) + outer * wx[tx][i];
        }
      }
    }
  }

  void values(S& strip, int padded) const {
    if (N == 1) {
      for (int i = 0; i < padded; ++i) strip.tap[0][i] = 1;
      return;
    }
    if (order == 0) return product<false>(strip, strip.tap, 0, [](int) { return T(1); }, padded);
    bool fresh = true;
    for (int m = 1; m < kTaps; ++m) {
      if (degree(m) != order) continue;
      const T* monomial = strip.monomial[m];
      const auto factor = [=](int i) { return monomial[i]; };
      fresh ? product<false>(strip, strip.tap, m, factor, padded) : product<true>(strip, strip.tap, m, factor, padded);
      fresh = false;
    }
  }

  void slopes(S& strip, int padded) const {
    if (N == 1) return;
    for (int a = 0; a < D; ++a) {
      const T* sign = strip.sign[a];
      if (order == 0) {
        product<false>(strip, strip.slope[a], power(N, a), [=](int i) { return sign[i]; }, padded);
        continue;
      }
      bool fresh = true;
      for (int m = 1; m < kTaps; ++m) {
        if (degree(m) != order + 1 || exponent(m, a) == 0) continue;
        const T* lower = strip.monomial[m - power(N, a)];
        const auto factor = [=](int i) { return sign[i] * lower[i]; };
        T(&out)[kTaps][kStrip] = strip.slope[a];
        fresh ? product<false>(strip, out, m, factor, padded) : product<true>(strip, out, m, factor, padded);
        fresh = false;
      }
    }
  }
};

}  // namespace
