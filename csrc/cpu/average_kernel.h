// One unit of an average or of a correlation: some row orbits of one outer index, and some tiles of its columns.
#pragma once

#include "average.h"
#include "storage.h"

namespace {

using equikernels::AveragePlan;
using equikernels::BlockLayout;
using equikernels::ColumnMap;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Wide;
template <>
struct Wide<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Wide<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};

template <class T>
EQUIKERNELS_INLINE typename Wide<T>::type load_wide(const T* p) {
  return load_unaligned<typename Wide<T>::type>(p);
}

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(Bf16 x) { return load_some(&x, 1, 1)[0]; }
inline float widen(Half x) { return load_some(&x, 1, 1)[0]; }

// A vector's lanes in another order: one instruction where vectors are wider than the oldest ones.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef int32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Lanes<double> {
  typedef int64_t type __attribute__((vector_size(kVectorBytes)));
};

// to[j] = from[offset[j]] where offsets repeat within every vector; returns how many values are done.
template <class T>
EQUIKERNELS_INLINE int64_t permute_lanes(T* to, const T* from, const int32_t* offset, int64_t period, int64_t length) {
  typedef typename Wide<T>::type V;
  constexpr int64_t kLanes = kVectorBytes / sizeof(T);
  if (kVectorBytes == 16 || period == 0 || kLanes % period != 0 || length < kLanes) return 0;
  typename Lanes<T>::type order;
  for (int64_t lane = 0; lane < kLanes; ++lane) order[lane] = offset[lane];
  int64_t j = 0;
  for (; j + kLanes <= length; j += kLanes) {
    store_unaligned(to + j, __builtin_shuffle(load_unaligned<V>(from + j), order));
  }
  return j;
}
template <class S, class T>
EQUIKERNELS_INLINE int64_t permute_lanes(T*, const S*, const int32_t*, int64_t, int64_t) {
  return 0;
}

// Where a unit lies: one outer index, orbits and tiles.
struct Span {
  int64_t sample, w, out;  // offsets of the outer index in elements
  int64_t orbit, orbit_end, tile, tile_end;
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline Span span_of(const AveragePlan& plan, int64_t unit) {
  Span span{};
  const int64_t tile_part = unit % plan.tile_parts;
  unit /= plan.tile_parts;
  const int64_t orbit_part = unit % plan.orbit_parts;
  int64_t outer = unit / plan.orbit_parts;
  for (int64_t d = plan.shape.outer_dims - 1; d >= 0; --d) {
    const int64_t at = outer % plan.shape.outer_size[d];
    outer /= plan.shape.outer_size[d];
    span.w += at * plan.w_layout.outer[d];
    span.out += at * plan.out_layout.outer[d];
    if (d == 0) span.sample = at;
  }
  const int64_t tiles = (plan.shape.channels + plan.tile - 1) / plan.tile;
  span.orbit = orbit_part * plan.orbits_per_unit;
  span.orbit_end = smaller(span.orbit + plan.orbits_per_unit, plan.orbits);
  span.tile = tile_part * plan.tiles_per_unit;
  span.tile_end = smaller(span.tile + plan.tiles_per_unit, tiles);
  return span;
}

// to[j] = from[offset[j]] in the type of the scratch.
template <class S, class T>
EQUIKERNELS_INLINE void gather(T* to, const S* from, const ColumnMap& map, int64_t b, int64_t pitch, int64_t length) {
  if (map.is_straight[b]) {
    for (int64_t j = 0; j < length; ++j) to[j] = T(widen(from[j]));
    return;
  }
  const int32_t* offset = map.offset + b * pitch;
  int64_t j = permute_lanes(to, from, offset, map.period, length);
#pragma GCC unroll 8
  for (; j < length; ++j) to[j] = T(widen(from[offset[j]]));
}

inline void narrow(float* to, float x) { *to = x; }
inline void narrow(double* to, double x) { *to = x; }
template <class S>
inline void narrow(S* to, float x) {
  store_some(to, Float4{x, 0, 0, 0}, 1);
}

// Columns of the next tile: rows of an orbit lie far apart, and gathers reach a row's lines in no order that the
// processor would foresee.
template <int kWrite, class S>
EQUIKERNELS_INLINE void prefetch(const S* row, int64_t length) {
  constexpr int64_t kLine = 64 / sizeof(S);
  for (int64_t j = 0; j < length; j += kLine) __builtin_prefetch(row + j, kWrite);
}

// to[place[j]] = from[offset[j]].
template <class S, class T>
EQUIKERNELS_INLINE void spread(S* to, const T* from, const AveragePlan& plan, int64_t a, int64_t length) {
  const ColumnMap& map = plan.out_columns;
  const int32_t* offset = map.offset + a * plan.length;
  if (plan.place != nullptr) {
    for (int64_t j = 0; j < length; ++j) narrow(to + plan.place[j], from[offset[j]]);
  } else if (map.is_straight[a]) {
    for (int64_t j = 0; j < length; ++j) narrow(to + j, from[j]);
  } else {
    int64_t j = permute_lanes(to, from, offset, map.period, length);
#pragma GCC unroll 8
    for (; j < length; ++j) narrow(to + j, from[offset[j]]);
  }
}

// Rows of the result from those gathered: result[i] = sum over the active b of factor[i][b] * v[b].
template <int kRows, class T>
__attribute__((noinline)) void mix(T* result, const T* v, int64_t pitch, const T* const* factor, const int32_t* active, int64_t count,
         int64_t length) {
  typedef typename Wide<T>::type V;
  constexpr int64_t kLanes = kVectorBytes / sizeof(T);
  for (int64_t j = 0; j < length; j += 2 * kLanes) {
    V sum[kRows][2] = {};
    for (int64_t k = 0; k < count; ++k) {
      const int64_t b = active[k];
      const V first = load_wide(v + b * pitch + j), second = load_wide(v + b * pitch + j + kLanes);
      for (int i = 0; i < kRows; ++i) {
        sum[i][0] += factor[i][b] * first;
        sum[i][1] += factor[i][b] * second;
      }
    }
    for (int i = 0; i < kRows; ++i) {
      store_unaligned(result + i * pitch + j, sum[i][0]);
      store_unaligned(result + i * pitch + j + kLanes, sum[i][1]);
    }
  }
}

constexpr int kRowsAtOnce = 4;

template <class T>
inline void mix_any(int rows, T* result, const T* v, int64_t pitch, const T* const* factor, const int32_t* active,
                    int64_t count, int64_t length) {
  switch (rows) {
    case 1: return mix<1>(result, v, pitch, factor, active, count, length);
    case 2: return mix<2>(result, v, pitch, factor, active, count, length);
    case 3: return mix<3>(result, v, pitch, factor, active, count, length);
    default: return mix<4>(result, v, pitch, factor, active, count, length);
  }
}

// Elements b with a weight that is not zero in one of these rows of the mixing matrix.
template <class T>
inline int64_t active_elements(const T* const* factor, int64_t rows, int64_t order, int32_t* active) {
  int64_t count = 0;
  for (int64_t b = 0; b < order; ++b) {
    bool any = false;
    for (int64_t i = 0; i < rows; ++i) any = any || factor[i][b] != 0;
    if (any) active[count++] = int32_t(b);
  }
  return count;
}

// Scratch: the gathered rows (order), the mixed rows, the factors of an orbit's rows, active elements.
template <class S>
void average_unit(const AveragePlan& plan, int64_t unit, char* scratch) {
  typedef Compute<S> T;
  const int64_t order = plan.shape.order, n = plan.shape.n;
  const Span span = span_of(plan, unit);
  T* const v = reinterpret_cast<T*>(scratch);
  T* const result = v + order * plan.pitch;
  const T** const factor = reinterpret_cast<const T**>(result + kRowsAtOnce * plan.pitch);
  int32_t* const needed = reinterpret_cast<int32_t*>(factor + order);
  int32_t* const active = needed + order;
  const T* const mixing = static_cast<const T*>(plan.mixing) + span.sample * order * order;
  const S* const w = static_cast<const S*>(plan.w) + span.w;
  S* const out = static_cast<S*>(plan.out) + span.out;

  for (int64_t orbit = span.orbit; orbit < span.orbit_end; ++orbit) {
    const int64_t* const moved = plan.moved + orbit * order;
    const int64_t* const element = plan.representative + plan.first[orbit];
    const int64_t rows = plan.first[orbit + 1] - plan.first[orbit];
    for (int64_t i = 0; i < rows; ++i) factor[i] = mixing + element[i] * order;
    const int64_t gathered = active_elements(factor, rows, order, needed);
    for (int64_t tile = span.tile; tile < span.tile_end; ++tile) {
      const int64_t channel = tile * plan.tile;
      const int64_t length = smaller(plan.tile, plan.shape.channels - channel) * n;
      for (int64_t k = 0; k < gathered; ++k) {
        const int64_t b = needed[k];
        const S* const row = w + channel * plan.w_layout.channel + moved[b] * plan.w_layout.row;
        if (tile + 1 < span.tile_end) prefetch<0>(row + plan.tile * plan.w_layout.channel, length);
        gather(v + b * plan.pitch, row, plan.w_columns, b, plan.length, length);
      }
      for (int64_t i = 0; i < rows; i += kRowsAtOnce) {
        const int64_t together = smaller(kRowsAtOnce, rows - i);
        const int64_t count = active_elements(factor + i, together, order, active);
        mix_any(int(together), result, v, plan.pitch, factor + i, active, count, length);
        for (int64_t r = 0; r < together; ++r) {
          const int64_t a = element[i + r];
          S* const to = out + channel * plan.out_layout.channel + moved[a] * plan.out_layout.row;
          if (tile + 1 < span.tile_end) prefetch<1>(to + plan.tile * plan.out_layout.channel, length);
          spread(to, result + r * plan.pitch, plan, a, length);
        }
      }
    }
  }
}

inline double dot(const double* x, const double* y, int64_t length) {
  typedef Wide<double>::type V;
  constexpr int64_t kLanes = kVectorBytes / sizeof(double);
  V sum[2] = {};
  // Rows end in zeros up to the pitch.
  for (int64_t j = 0; j < length; j += 2 * kLanes) {
    sum[0] += load_wide(x + j) * load_wide(y + j);
    sum[1] += load_wide(x + j + kLanes) * load_wide(y + j + kLanes);
  }
  double total = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) total += sum[0][lane] + sum[1][lane];
  return total;
}

// With rows x = c r of an orbit, sum over y of g[x, y] w[a^-1 x, a^-1 y] is the product of G_c[j] = g[c r, c j] and V_b,
// b = a^-1 c, so that a = c b^-1.
template <class S>
void correlate_unit(const AveragePlan& plan, int64_t unit, char* scratch) {
  const int64_t order = plan.shape.order, n = plan.shape.n;
  const Span span = span_of(plan, unit);
  double* const v = reinterpret_cast<double*>(scratch);
  double* const other = v + order * plan.pitch;
  double* const sums = plan.sums + unit * order;
  for (int64_t a = 0; a < order; ++a) sums[a] = 0;
  const S* const w = static_cast<const S*>(plan.w) + span.w;
  const S* const g = static_cast<const S*>(plan.out) + span.out;

  for (int64_t orbit = span.orbit; orbit < span.orbit_end; ++orbit) {
    const int64_t* const moved = plan.moved + orbit * order;
    for (int64_t tile = span.tile; tile < span.tile_end; ++tile) {
      const int64_t channel = tile * plan.tile;
      const int64_t length = smaller(plan.tile, plan.shape.channels - channel) * n;
      const auto fill = [&](double* to, const S* from, const BlockLayout& layout, const ColumnMap& columns, int64_t b) {
        const S* const row = from + channel * layout.channel + moved[b] * layout.row;
        gather(to, row, columns, b, plan.length, length);
        for (int64_t j = length; j < plan.pitch; ++j) to[j] = 0;
      };
      for (int64_t b = 0; b < order; ++b) fill(v + b * plan.pitch, w, plan.w_layout, plan.w_columns, b);
      for (int64_t i = plan.first[orbit]; i < plan.first[orbit + 1]; ++i) {
        const int64_t c = plan.representative[i];
        fill(other, g, plan.out_layout, plan.out_columns, c);
        const int64_t* const quotient = plan.shape.table + c * order;
        for (int64_t b = 0; b < order; ++b) sums[quotient[b]] += dot(other, v + b * plan.pitch, length);
      }
    }
  }
}

// In the order of equikernels::Storage.
#define EQUIKERNELS_AVERAGE_TABLE                                                                  \
  {                                                                                                \
    {average_unit<float>, average_unit<double>, average_unit<Bf16>, average_unit<Half>},           \
        {correlate_unit<float>, correlate_unit<double>, correlate_unit<Bf16>, correlate_unit<Half>} \
  }

}  // namespace
