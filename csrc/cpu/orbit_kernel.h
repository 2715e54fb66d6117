// The two directions of an orbit transform. Included once by every unit of one instruction set; see storage.h.
#pragma once

#include "orbit.h"
#include "storage.h"

namespace {

using equikernels::OrbitFamily;
using equikernels::OrbitJob;

// A whole register of the widest set; narrower sets split it.
template <class T> struct WideOf;
template <> struct WideOf<float> { typedef float type __attribute__((vector_size(64))); };
template <> struct WideOf<double> { typedef double type __attribute__((vector_size(64))); };
template <class T> using Wide = typename WideOf<T>::type;
template <class T> constexpr int64_t kWide = 64 / sizeof(T);

// Results computed side by side from one pass over what is gathered.
constexpr int64_t kTogether = 4;

// together[i] = sum over b of mix[i][b] gathered[b], at one place of a buffer with rows of `pitch` values.
template <class T, int64_t kCount>
EQUIKERNELS_INLINE void mix_wide(const T* mix, int64_t size, const T* gathered, int64_t pitch, Wide<T>* together) {
  for (int64_t i = 0; i < kCount; ++i) together[i] = Wide<T>{} ;
  for (int64_t b = 0; b < size; ++b) {
    const Wide<T> value = load_unaligned<Wide<T>>(gathered + b * pitch);
    for (int64_t i = 0; i < kCount; ++i) together[i] += mix[i * size + b] * value;
  }
}

constexpr int64_t kBuffer = 4096;

template <class T, int64_t kCount>
EQUIKERNELS_INLINE void scatter_results(const OrbitFamily& family, int64_t a, int64_t start, int64_t width, int64_t pitch,
                            const T* gathered, T* y) {
  const T* mix = static_cast<const T*>(family.mix) + a * family.size;
  for (int64_t at = 0; at < width; at += kWide<T>) {
    Wide<T> together[kCount];
    mix_wide<T, kCount>(mix, family.size, gathered + at, pitch, together);
    const int64_t lanes = width - at < kWide<T> ? width - at : kWide<T>;
    for (int64_t i = 0; i < kCount; ++i) {
      T values[kWide<T>];
      store_unaligned(values, together[i]);
      const int32_t* to = family.outputs + (a + i) * family.orbits + start + at;
      if (family.output_runs >> (a + i) & 1) {
        if (lanes == kWide<T>) {
          store_unaligned(y + to[0], together[i]);
        } else {
          for (int64_t lane = 0; lane < lanes; ++lane) y[to[0] + lane] = values[lane];
        }
        continue;
      }
      for (int64_t lane = 0; lane < lanes; ++lane) y[to[lane]] = values[lane];
    }
  }
}

template <class T>
void transform_row(const OrbitJob& job, const T* x, T* y) {
  T gathered[kBuffer];
  for (int64_t f = 0; f < job.count; ++f) {
    const OrbitFamily& family = job.families[f];
    const int64_t pitch = kBuffer / family.size / kWide<T> * kWide<T>;
    for (int64_t start = 0; start < family.orbits; start += pitch) {
      const int64_t width = family.orbits - start < pitch ? family.orbits - start : pitch;
      // Lanes beyond the last orbit are computed and dropped: they need to hold some number.
      const int64_t padded = (width + kWide<T> - 1) / kWide<T> * kWide<T>;
      for (int64_t b = 0; b < family.size; ++b) {
        const int32_t* from = family.inputs + b * family.orbits + start;
        T* to = gathered + b * pitch;
        if (family.input_runs >> b & 1) {
          memcpy(to, x + from[0], size_t(width) * sizeof(T));
        } else {
          for (int64_t i = 0; i < width; ++i) to[i] = x[from[i]];
        }
        for (int64_t i = width; i < padded; ++i) to[i] = 0;
      }
      int64_t a = 0;
      for (; a + kTogether <= family.size; a += kTogether) {
        scatter_results<T, kTogether>(family, a, start, width, pitch, gathered, y);
      }
      for (; a < family.size; ++a) scatter_results<T, 1>(family, a, start, width, pitch, gathered, y);
    }
  }
}

template <class T>
void orbit_rows(const OrbitJob& job, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t sample = row / job.rows, r = row % job.rows;
    transform_row(job, static_cast<const T*>(job.x) + sample * job.x_stride[0] + r * job.x_stride[1],
                  static_cast<T*>(job.y) + sample * job.y_stride[0] + r * job.y_stride[1]);
  }
}

// Rows a .. a + kCount of one orbit's results, from rows of x.
template <class T, int64_t kCount>
EQUIKERNELS_INLINE void combine_rows(const T* mix, int64_t size, int64_t columns, const T* const* from, T* const* to) {
  int64_t at = 0;
  for (; at + kWide<T> <= columns; at += kWide<T>) {
    Wide<T> together[kCount];
    for (int64_t i = 0; i < kCount; ++i) together[i] = Wide<T>{};
    for (int64_t b = 0; b < size; ++b) {
      const Wide<T> value = load_unaligned<Wide<T>>(from[b] + at);
      for (int64_t i = 0; i < kCount; ++i) together[i] += mix[i * size + b] * value;
    }
    for (int64_t i = 0; i < kCount; ++i) store_unaligned(to[i] + at, together[i]);
  }
  for (; at < columns; ++at) {
    for (int64_t i = 0; i < kCount; ++i) {
      T sum = 0;
      for (int64_t b = 0; b < size; ++b) sum += mix[i * size + b] * from[b][at];
      to[i][at] = sum;
    }
  }
}

template <class T>
void orbit_columns(const OrbitJob& job, const OrbitFamily& family, int64_t sample, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(job.x) + sample * job.x_stride[0];
  T* y = static_cast<T*>(job.y) + sample * job.y_stride[0];
  const T* from[equikernels::kLargestOrbit];
  T* to[equikernels::kLargestOrbit];
  // Pieces of the columns small enough that the rows of an orbit are read from memory once.
  constexpr int64_t kPiece = 1024 / sizeof(T);
  for (int64_t orbit = begin; orbit < end; ++orbit) {
    for (int64_t start = 0; start < job.columns; start += kPiece) {
      const int64_t width = job.columns - start < kPiece ? job.columns - start : kPiece;
      for (int64_t b = 0; b < family.size; ++b) {
        from[b] = x + family.inputs[b * family.orbits + orbit] * job.x_stride[1] + start;
        to[b] = y + family.outputs[b * family.orbits + orbit] * job.y_stride[1] + start;
      }
      const T* mix = static_cast<const T*>(family.mix);
      int64_t a = 0;
      for (; a + kTogether <= family.size; a += kTogether) {
        combine_rows<T, kTogether>(mix + a * family.size, family.size, width, from, to + a);
      }
      for (; a < family.size; ++a) combine_rows<T, 1>(mix + a * family.size, family.size, width, from, to + a);
    }
  }
}

#define EQUIKERNELS_ORBIT_TABLE { { orbit_rows<float>, orbit_rows<double> }, { orbit_columns<float>, orbit_columns<double> } }

}  // namespace
