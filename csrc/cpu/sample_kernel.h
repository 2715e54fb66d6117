// The kernels. Included once by every unit of one instruction set; see storage.h.
#pragma once

#include "sample_frame.h"
#include "sample_place.h"

namespace {

// Rows are taken in groups, strip by strip, so that the taps of a group stay in the cache.
constexpr int64_t kRowGroup = 64;

template <class T>
struct Steps {
  int64_t line, slice;  // pixels of the frame from a row to the next, and from a slice to the next
};

// The taps of a cell under a set of weights.
template <class T, int D, int N>
inline Vector<T> gather(const Vector<T>* cell, Steps<T> step, const T (*w)[kStrip], int i) {
  Vector<T> sum{};
  for (int tz = 0; tz < (D == 3 ? N : 1); ++tz) {
    for (int ty = 0; ty < N; ++ty) {
      const Vector<T>* line = cell + tz * step.slice + ty * step.line;
      const T(*weight)[kStrip] = w + (tz * N + ty) * N;
      Vector<T> row = line[0] * weight[0][i];
      for (int tx = 1; tx < N; ++tx) row += line[tx] * weight[tx][i];
      sum = tz + ty == 0 ? row : sum + row;
    }
  }
  return sum;
}

template <class T, int D, int N>
inline void scatter(Vector<T>* cell, Steps<T> step, const T (*w)[kStrip], int i, Vector<T> value) {
  for (int tz = 0; tz < (D == 3 ? N : 1); ++tz) {
    for (int ty = 0; ty < N; ++ty) {
      Vector<T>* line = cell + tz * step.slice + ty * step.line;
      const T(*weight)[kStrip] = w + (tz * N + ty) * N;
      for (int tx = 0; tx < N; ++tx) line[tx] += value * weight[tx][i];
    }
  }
}

template <class T>
inline double sum_lanes(Vector<T> v) {
  return (double(v[0]) + double(v[2])) + (double(v[1]) + double(v[3]));
}

// Neighbouring pixels add to the same taps, and waiting for each other's stores would cost more than
// the arithmetic: blocks of four are taken from four places of a strip in turn.
inline int spread_block(int index, int blocks) {
  const int quarter = blocks / 4;
  if (index >= quarter * 4) return index;
  return index % 4 * quarter + index / 4;
}

template <class S, int D, int N>
void apply_rows(const SampleJob& job, int64_t index, int64_t begin, int64_t end, const char* memory) {
  typedef Compute<S> T;
  const Plane plane(job, index);
  const Placer<T, D, N> placer(job, plane.sample);
  if (!placer.defined) return fill_rows<S>(job, plane, begin, end, __builtin_nanf(""));
  if (placer.vanishes(0)) return fill_rows<S>(job, plane, begin, end, 0);
  const Vector<T>* frame = reinterpret_cast<const Vector<T>*>(memory);
  const Steps<T> step{job.plan.pitch, job.plan.pitch * job.plan.lines};
  const int64_t area = job.plan.rows * job.width;
  Strip<T, D, N> strip;
  for (int64_t group = begin; group < end; group += kRowGroup) {
    for (int64_t x = 0; x < job.width; x += kStrip) {
      const int count = int(smaller(kStrip, job.width - x));
      for (int64_t row = group; row < smaller(end, group + kRowGroup); ++row) {
        placer.template fill<true, false>(strip, row, x, count);
        S* out = output_row<S>(job, plane, row) + x;
        for (int i = 0; i < count; i += 4) {
          Block<T> b;
          // Places past the end of the row lie somewhere in the frame like all others.
          for (int k = 0; k < 4; ++k) {
            b.v[k] = gather<T, D, N>(frame + strip.cell[i + k], step, strip.tap, i + k);
          }
          store_block(out + i, area, plane.live, count - i, b);
        }
      }
    }
  }
}

// What a strip of pixels contributes to the matrix gradient, but for factors that are the same for
// all of them: by axis the sum of gradient times slope, and that times x.
template <class T, int D>
struct Moments {
  Vector<T> plain[D], times_x[D];
};

template <class S, int D, int N, bool kAdjoint, bool kMatrix>
void backward_strip(const SampleJob& job, const Plane& plane, const Strip<Compute<S>, D, N>& strip, int count,
                    const S* grad, const char* memory, char* sums, Moments<Compute<S>, D>& moments) {
  typedef Compute<S> T;
  const Vector<T>* frame = reinterpret_cast<const Vector<T>*>(memory);
  Vector<T>* sum = reinterpret_cast<Vector<T>*>(sums);
  const Steps<T> step{job.plan.pitch, job.plan.pitch * job.plan.lines};
  const int64_t channel = job.grad.stride[1], column = job.grad.stride[4];
  const auto pixel = [&](int i, Vector<T> g) {
    if (kAdjoint) scatter<T, D, N>(sum + strip.cell[i], step, strip.tap, i, g);
    if (!kMatrix) return;
    for (int a = 0; a < D; ++a) {
      const Vector<T> product = g * gather<T, D, N>(frame + strip.cell[i], step, strip.slope[a], i);
      moments.plain[a] += product;
      moments.times_x[a] += product * strip.x[i];
    }
  };
  const int blocks = count / 4;
  for (int block = 0; block < blocks; ++block) {
    const int i = spread_block(block, blocks) * 4;
    const Block<T> g = load_block(grad + i * column, channel, column, plane.live, 4);
    for (int k = 0; k < 4; ++k) pixel(i + k, g.v[k]);
  }
  if (blocks * 4 == count) return;
  const Block<T> g = load_block(grad + blocks * 4 * column, channel, column, plane.live, count - blocks * 4);
  for (int i = blocks * 4; i < count; ++i) pixel(i, g.v[i - blocks * 4]);
}

template <class S, int D, int N, bool kAdjoint, bool kMatrix>
void backward_kernel(const SampleJob& job, int64_t index, int64_t begin, int64_t end, const char* frame, char* sum,
                     double* partial) {
  typedef Compute<S> T;
  const Plane plane(job, index);
  const Placer<T, D, N> placer(job, plane.sample);
  if (kMatrix) {
    for (int e = 0; e < equikernels::kMatrixEntries; ++e) partial[e] = placer.defined ? 0.0 : __builtin_nan("");
  }
  if (!placer.defined || placer.vanishes(0)) return;
  if (kMatrix && placer.vanishes(1)) {
    // Nothing of z is read then: not even an infinity in it counts.
    if (kAdjoint) backward_kernel<S, D, N, true, false>(job, index, begin, end, frame, sum, partial);
    return;
  }
  const int64_t column = job.grad.stride[4];
  Strip<T, D, N> strip;
  for (int64_t group = begin; group < end; group += kRowGroup) {
    for (int64_t x = 0; x < job.width; x += kStrip) {
      const int count = int(smaller(kStrip, job.width - x));
      for (int64_t row = group; row < smaller(end, group + kRowGroup); ++row) {
        placer.template fill<kAdjoint, kMatrix>(strip, row, x, count);
        const S* grad = row_of<S>(job.grad, job, plane, row) + x * column;
        Moments<T, D> moments{};
        backward_strip<S, D, N, kAdjoint, kMatrix>(job, plane, strip, count, grad, frame, sum, moments);
        if (!kMatrix) continue;
        const double y = double(row % job.height) - double(placer.centre[1]);
        const double z = double(row / job.height) - double(placer.centre[2]);
        for (int a = 0; a < D; ++a) {
          const double plain = sum_lanes<T>(moments.plain[a]);
          double* entry = partial + a * (D + 1);
          entry[0] += sum_lanes<T>(moments.times_x[a]);
          entry[1] += y * plain;
          if (D == 3) entry[2] += z * plain;
          entry[D] += plain;
        }
      }
    }
  }
}

template <class S, int D, int N>
void backward_rows(const SampleJob& job, int64_t index, int64_t begin, int64_t end, const char* frame, char* sum,
                   double* partial) {
  const auto kernel = partial == nullptr ? backward_kernel<S, D, N, true, false>
                      : sum == nullptr   ? backward_kernel<S, D, N, false, true>
                                         : backward_kernel<S, D, N, true, true>;
  kernel(job, index, begin, end, frame, sum, partial);
}

template <class S>
void finish(const SampleJob& job, int64_t index, char* sum) {
  typedef Compute<S> T;
  const Plane plane(job, index);
  const bool defined = job.dims == 2 ? matrix_of<T, 2>(job, plane.sample).finite()
                                     : matrix_of<T, 3>(job, plane.sample).finite();
  if (!defined) return fill_rows<S>(job, plane, 0, job.plan.rows, __builtin_nanf(""));
  finish_frame<S>(job, plane, sum);
}

// In the order of equikernels::Storage, and of the forms in sample.cpp.
#define EQUIKERNELS_BY_STORAGE(kernel) \
  { kernel<float>, kernel<double>, kernel<Bf16>, kernel<Half> }
#define EQUIKERNELS_BY_FORM(kernel, S) \
  { kernel<S, 2, 1>, kernel<S, 2, 2>, kernel<S, 2, 4>, kernel<S, 3, 1>, kernel<S, 3, 2> }
#define EQUIKERNELS_BY_STORAGE_AND_FORM(kernel)                                                       \
  {                                                                                                   \
    EQUIKERNELS_BY_FORM(kernel, float), EQUIKERNELS_BY_FORM(kernel, double),                          \
        EQUIKERNELS_BY_FORM(kernel, Bf16), EQUIKERNELS_BY_FORM(kernel, Half)                          \
  }
#define EQUIKERNELS_SAMPLE_TABLE                                                                  \
  {                                                                                               \
    EQUIKERNELS_BY_STORAGE(fill_frame), EQUIKERNELS_BY_STORAGE_AND_FORM(apply_rows),              \
        EQUIKERNELS_BY_STORAGE_AND_FORM(backward_rows), EQUIKERNELS_BY_STORAGE(finish)            \
  }

}  // namespace
