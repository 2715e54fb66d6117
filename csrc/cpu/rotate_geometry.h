// Where the pixels of a tile come from: angles, bounding boxes, the visible part of a row, and the
// four taps of a strip of pixels.
#pragma once

#include <math.h>
#include <stdint.h>

#include "rotate.h"

namespace {

using equikernels::RotateJob;

// Zero pixels around a scratch image. A coordinate is clamped to one position whose four taps all
// lie in this frame, so a pixel that misses the image reads zeros, or adds to pixels that nobody
// reads, without a test; with two pixels a clamped tap never touches the image itself, where
// 0 * infinity would leave a NaN.
constexpr int64_t kMargin = 2;
constexpr int kStrip = 64;
constexpr int kStripRound = 16;  // strips are computed in whole vectors

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Box {
  int64_t y, x, height, width;
  bool empty() const { return height <= 0 || width <= 0; }
};

struct Unit {
  int64_t sample, channel, channels;  // channels [channel, channel + channels)
  Box tile;
};

inline Unit unit_at(const RotateJob& job, int64_t index) {
  const auto& plan = job.plan;
  Unit unit;
  const int64_t tx = index % plan.tiles_x;
  index /= plan.tiles_x;
  const int64_t ty = index % plan.tiles_y;
  index /= plan.tiles_y;
  const int64_t together = plan.lanes * plan.groups_per_unit;
  unit.channel = index % plan.spans * together;
  unit.sample = index / plan.spans;
  unit.channels = smaller(together, job.channels - unit.channel);
  unit.tile.y = ty * plan.tile_height;
  unit.tile.x = tx * plan.tile_width;
  unit.tile.height = smaller(plan.tile_height, job.height - unit.tile.y);
  unit.tile.width = smaller(plan.tile_width, job.width - unit.tile.x);
  return unit;
}

inline void sine_cosine(float angle, float& sine, float& cosine) {
  sine = sinf(angle);
  cosine = cosf(angle);
}
inline void sine_cosine(double angle, double& sine, double& cosine) {
  sine = sin(angle);
  cosine = cos(angle);
}

// A step below 1e-12 moves no coordinate by more than the slack of Rotation, so it may be that large.
inline double inverse_step(double step) {
  const double least = step < 0 ? -1e-12 : 1e-12;
  return 1.0 / (fabs(step) < 1e-12 ? least : step);
}

template <class T>
struct Rotation {
  T cosine, sine, centre_x, centre_y;
  int64_t height, width;
  double inverse_cosine, inverse_sine;
  bool defined;  // false for an angle that is not finite: the sample is NaN

  Rotation(const RotateJob& job, int64_t sample) {
    const T angle = static_cast<const T*>(job.theta)[sample * job.theta_stride];
    defined = __builtin_isfinite(angle);
    sine_cosine(angle, sine, cosine);
    inverse_cosine = inverse_step(cosine);
    inverse_sine = inverse_step(sine);
    height = job.height;
    width = job.width;
    centre_x = T(width - 1) / 2;
    centre_y = T(height - 1) / 2;
  }

  // Coordinates carry a rounding error of a few units in the last place of the image size; boxes
  // and intervals are enlarged by more than that, since they only skip work that has no effect.
  double slack() const { return 1.0 / 64 + 4e-7 * double(height + width); }

  // The pixels of the image that can be taps of `tile` under this rotation, or, for direction -1,
  // the output pixels whose taps can lie in it.
  Box reach(const Box& tile, int direction) const {
    const double c = cosine, s = direction * double(sine);
    const double half_x = 0.5 * double(tile.width - 1) + (direction < 0 ? 1 : 0);
    const double half_y = 0.5 * double(tile.height - 1) + (direction < 0 ? 1 : 0);
    const double x = double(tile.x) + 0.5 * double(tile.width - 1) - double(centre_x);
    const double y = double(tile.y) + 0.5 * double(tile.height - 1) - double(centre_y);
    const double middle_x = c * x - s * y + double(centre_x);
    const double middle_y = s * x + c * y + double(centre_y);
    const double spread_x = fabs(c) * half_x + fabs(s) * half_y + slack();
    const double spread_y = fabs(s) * half_x + fabs(c) * half_y + slack();
    const int64_t left = larger(0, int64_t(floor(middle_x - spread_x)));
    const int64_t top = larger(0, int64_t(floor(middle_y - spread_y)));
    const int64_t right = smaller(width - 1, int64_t(floor(middle_x + spread_x)) + 1);
    const int64_t bottom = smaller(height - 1, int64_t(floor(middle_y + spread_y)) + 1);
    return Box{top, left, bottom - top + 1, right - left + 1};
  }
};

// The j with low < start + j / inverse < high, as an interval of real numbers cut to [*first, *last].
inline void narrow(double start, double inverse, double low, double high, double& first, double& last) {
  const double from_low = (low - start) * inverse, from_high = (high - start) * inverse;
  const double lower = from_low < from_high ? from_low : from_high;
  const double upper = from_low < from_high ? from_high : from_low;
  first = lower > first ? lower : first;
  last = upper < last ? upper : last;
}

// The columns of output row `row` with a tap in `target`, widened to whole groups of four. Without
// branches on the angle, which would be mispredicted at every row. Short rows are taken whole: finding
// their ends costs more than it saves.
template <class T>
inline void visible(const Rotation<T>& r, const Box& target, int64_t row, int64_t& begin, int64_t& end) {
  if (end - begin <= kStrip) return;
  const double c = r.cosine, s = r.sine, slack = r.slack();
  const double y = double(row) - double(r.centre_y);
  const double start_x = -c * double(r.centre_x) - s * y + double(r.centre_x);
  const double start_y = -s * double(r.centre_x) + c * y + double(r.centre_y);
  double first = double(begin), last = double(end - 1);
  narrow(start_x, r.inverse_cosine, double(target.x - 1) - slack, double(target.x + target.width) + slack, first, last);
  narrow(start_y, r.inverse_sine, double(target.y - 1) - slack, double(target.y + target.height) + slack, first, last);
  // Cut as doubles before the conversion: a nearly vertical line gives huge numbers. Truncation then
  // errs outwards on one side; on the other the whole group of four covers it.
  first = first < double(end) ? first : double(end);
  last = last > double(begin - 1) ? last : double(begin - 1);
  const int64_t length = int64_t(last) - int64_t(first) + 1;
  const int64_t from = begin + (int64_t(first) - begin) / 4 * 4;
  const int64_t to = begin + (int64_t(last) + 1 - begin + 3) / 4 * 4;
  end = length <= 0 ? begin : smaller(end, to);
  begin = length <= 0 ? begin : from;
}

// A_k needs the k-th derivatives of X, Y and the mixed part of the product of the hat functions:
// X^(k) = a X + b Y, Y^(k) = a Y - b X with (a, b) = Re, -Im of i^k, and, from
// XY = |.|^2 sin(2 phi) / 2, the terms 0 < j < k of Leibniz' rule sum to
// even k: (-1)^(k/2) (2^k - 2) XY,   odd k: (-1)^((k-1)/2) (2^(k-1) - 1) (X^2 - Y^2).
template <class T>
struct Derivative {
  int order;
  T a, b, mixed_product, mixed_difference;

  explicit Derivative(int k) : order(k) {
    const T sign = k / 2 % 2 == 0 ? T(1) : T(-1);
    const bool even = k % 2 == 0;
    a = even ? sign : T(0);
    b = even ? T(0) : -sign;
    const T power = T(ldexp(1.0, even ? k : k - 1));
    mixed_product = even ? sign * (power - 2) : T(0);
    mixed_difference = even ? T(0) : sign * (power - 1);
  }
};

// The four taps of up to kStrip pixels: the byte offset of the upper left one in a scratch image, and
// the weights (upper left, upper right, lower left, lower right) of A_k and of A_{k+1}.
template <class T>
struct Strip {
  alignas(64) uint32_t offset[kStrip];
  alignas(64) T tap[4][kStrip];
  alignas(64) T slope[4][kStrip];
};

// What the weights are made of.
template <class T>
struct Cells {
  alignas(64) T right[kStrip];  // how far into its cell a pixel falls
  alignas(64) T lower[kStrip];
  alignas(64) T x[kStrip];  // X, Y of the derivation, from the centre
  alignas(64) T y[kStrip];
};

// Fills strips for one tile: `box` is the part of the image held by a scratch image whose rows are
// `pitch` pixels of `bytes` bytes apart.
template <class T>
struct Locator {
  Rotation<T> rotation;
  Derivative<T> derivative, next;
  T low_x, low_y, high_x, high_y;
  int pitch, bytes, origin;

  Locator(const Rotation<T>& r, int order, const Box& box, int64_t scratch_pitch, size_t pixel_bytes)
      : rotation(r), derivative(order), next(order + 1) {
    low_x = T(box.x - kMargin);
    low_y = T(box.y - kMargin);
    high_x = T(box.x + box.width);
    high_y = T(box.y + box.height);
    pitch = int(scratch_pitch);
    bytes = int(pixel_bytes);
    origin = int((box.y - kMargin) * scratch_pitch + box.x - kMargin);
  }

  template <bool kTaps, bool kSlopes>
  void fill(Strip<T>& strip, int64_t row, int64_t column, int count) const {
    const int padded = (count + kStripRound - 1) / kStripRound * kStripRound;
    Cells<T> cells;
    locate(strip.offset, cells, row, column, padded);
    if (kTaps && derivative.order == 0) weigh(cells, strip.tap, padded);
    if (kTaps && derivative.order > 0) differentiate(cells, strip.tap, derivative, padded);
    if (kSlopes) differentiate(cells, strip.slope, next, padded);
  }

 private:
  // Never inlined: compiled once, it rounds alike in every kernel, and since nothing before the floor
  // depends on the tile, all of them agree on the cell of a pixel. At angles that put pixels on cell
  // borders the derivatives of different kernels would otherwise belong to different cells.
  __attribute__((noinline)) void locate(uint32_t (&offset)[kStrip], Cells<T>& cells, int64_t row, int64_t column,
                                        int padded) const {
    const T dy = T(row) - rotation.centre_y, first = T(column) - rotation.centre_x;
    const T cosine = rotation.cosine, sine = rotation.sine, sine_y = sine * dy, cosine_y = cosine * dy;
    const T centre_x = rotation.centre_x, centre_y = rotation.centre_y;
    const T least_x = low_x, least_y = low_y, most_x = high_x, most_y = high_y;
    const int row_pixels = pitch, pixel_bytes = bytes, start = origin;
    for (int i = 0; i < padded; ++i) {
      const T dx = first + T(i);
      const T x = cosine * dx - sine_y;
      const T y = sine * dx + cosine_y;
      T u = x + centre_x, v = y + centre_y;
      u = u > least_x ? u : least_x;
      v = v > least_y ? v : least_y;
      u = u < most_x ? u : most_x;
      v = v < most_y ? v : most_y;
      int left = int(u), upper = int(v);
      left -= u < T(left);  // truncation becomes floor
      upper -= v < T(upper);
      offset[i] = uint32_t((upper * row_pixels + left - start) * pixel_bytes);
      cells.right[i] = u - T(left);
      cells.lower[i] = v - T(upper);
      cells.x[i] = x;
      cells.y[i] = y;
    }
  }

  static inline void weigh(const Cells<T>& cells, T (&out)[4][kStrip], int padded) {
    for (int i = 0; i < padded; ++i) {
      const T right = cells.right[i], lower = cells.lower[i];
      const T left = 1 - right, upper = 1 - lower;
      out[0][i] = left * upper;
      out[1][i] = right * upper;
      out[2][i] = left * lower;
      out[3][i] = right * lower;
    }
  }

  static inline void differentiate(const Cells<T>& cells, T (&out)[4][kStrip], const Derivative<T>& derivative,
                                   int padded) {
    const Derivative<T> d = derivative;
    for (int i = 0; i < padded; ++i) {
      const T right = cells.right[i], lower = cells.lower[i];
      const T left = 1 - right, upper = 1 - lower;
      const T x = cells.x[i], y = cells.y[i];
      const T dx = d.a * x + d.b * y, dy = d.a * y - d.b * x;
      const T mixed = d.mixed_product * (x * y) + d.mixed_difference * (x * x - y * y);
      out[0][i] = mixed - left * dy - upper * dx;
      out[1][i] = upper * dx - right * dy - mixed;
      out[2][i] = left * dy - lower * dx - mixed;
      out[3][i] = mixed + right * dy + lower * dx;
    }
  }
};

}  // namespace
