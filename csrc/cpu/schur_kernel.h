// Pairs of rows against their factors. Included once by every unit of one instruction set; see storage.h.
#pragma once

#include <math.h>

#include "schur_lines.h"

namespace {

// f(sigma) for the difference dx + i dy of two eigenvalues.
inline double response(const SchurJob& job, double dx, double dy) {
  const double excess = __builtin_sqrt(dx * dx + dy * dy) - job.cutoff;
  if (job.width > 0) return excess > 0 ? ::exp(-excess / job.width) : 1.0;
  if (excess < -job.tolerance) return 1.0;
  return excess <= job.tolerance ? job.at_cutoff : 0.0;
}

struct Factor {
  double same, opposite;
};

template <class T>
inline Factor factor_at(const SchurJob& job, int64_t row, int64_t column, bool planes) {
  if (job.same != nullptr) {
    const T same = static_cast<const T*>(job.same)[row * job.same_stride[0] + column * job.same_stride[1]];
    if (!planes) return {same, same};
    const int64_t at = row * job.opposite_stride[0] + column * job.opposite_stride[1];
    return {same, static_cast<const T*>(job.opposite)[at]};
  }
  const double* out = job.row.modes + 2 * job.row.starts[row];
  const double* in = job.column.modes + 2 * job.column.starts[column];
  const double same = response(job, out[0] - in[0], out[1] - in[1]);
  return {same, planes ? response(job, out[0] - in[0], out[1] + in[1]) : same};
}

// What multiplies the first row of a block itself and its partner; for the second row the latter is negated.
template <class T>
__attribute__((noinline)) void fill_factors(const SchurJob& job, const SchurPiece& piece, int64_t row, T* own,
                                            T* half) {
  const bool plane = is_pair(job.row, row);
  for (int64_t block = piece.first_column; block < piece.end_column; ++block) {
    const int64_t at = job.column.starts[block] - piece.start, partner = at + job.column.distance;
    const bool two = is_pair(job.column, block), planes = plane && two;
    const Factor f = factor_at<T>(job, row, block, planes);
    own[at] = T(planes ? (f.same + f.opposite) / 2 : f.same);
    half[at] = T(planes ? (f.same - f.opposite) / 2 : 0.0);
    if (!two) continue;
    own[partner] = own[at];
    half[partner] = -half[at];
  }
  repeat(own, piece.length, job.plan.repeats);
  repeat(half, piece.length, job.plan.repeats);
}

// Two rows a, b of a block, with columns whose partners are near.
template <class T>
__attribute__((noinline)) void scale_near(const T* __restrict a, const T* __restrict b, const T* __restrict own,
                                          const T* __restrict half, const T* __restrict first, int64_t distance,
                                          T* __restrict x, T* __restrict y, int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    const T beside_a = first[j] != 0 ? a[j + distance] : a[j - distance];
    const T beside_b = first[j] != 0 ? b[j + distance] : b[j - distance];
    const T p = own[j] * a[j], q = own[j] * b[j];
    // Not a product with zero: what is beside may belong to another block, and be infinite.
    x[j] = half[j] != 0 ? p + half[j] * beside_b : p;
    y[j] = half[j] != 0 ? q - half[j] * beside_a : q;
  }
}

// Every value and its neighbour exchanged, two by two.
template <class V>
EQUIKERNELS_INLINE V swapped(V v) {
  constexpr int kLanes = int(sizeof(V) / sizeof(v[0]));
  if constexpr (kLanes == 2) return __builtin_shufflevector(v, v, 1, 0);
  if constexpr (kLanes == 4) return __builtin_shufflevector(v, v, 1, 0, 3, 2);
  if constexpr (kLanes == 8) return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
  if constexpr (kLanes == 16) {
    return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  }
}

// Two rows a, b of a block, with columns that are all pairs of neighbours. Results may take the place of what they are
// made of.
template <class T>
__attribute__((noinline)) void scale_pairs(const T* a, const T* b, const T* own, const T* half, T* x, T* y,
                                           int64_t count) {
  typedef typename Wide<T>::type V;
  constexpr int64_t kLanes = int64_t(sizeof(V) / sizeof(T));
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    const V s = load_unaligned<V>(own + j), t = load_unaligned<V>(half + j);
    const V p = load_unaligned<V>(a + j), q = load_unaligned<V>(b + j);
    const auto mixes = t != 0;
    store_unaligned(x + j, mixes ? s * p + t * swapped(q) : s * p);
    store_unaligned(y + j, mixes ? s * q - t * swapped(p) : s * q);
  }
  for (; j < count; j += 2) {
    const T s = own[j], t = half[j], a1 = a[j], a2 = a[j + 1], b1 = b[j], b2 = b[j + 1];
    x[j] = t != 0 ? s * a1 + t * b2 : s * a1;
    x[j + 1] = t != 0 ? s * a2 - t * b1 : s * a2;
    y[j] = t != 0 ? s * b1 - t * a2 : s * b1;
    y[j + 1] = t != 0 ? s * b2 + t * a1 : s * b2;
  }
}

// A run of first columns and, at a distance, their partners. Results may take the place of what they are made of.
template <class T>
__attribute__((noinline)) void scale_far(const T* a, const T* b, const T* own, const T* half, int64_t distance, T* x,
                                         T* y, int64_t count) {
  typedef typename Wide<T>::type V;
  constexpr int64_t kLanes = int64_t(sizeof(V) / sizeof(T));
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    const int64_t k = j + distance;
    const V s = load_unaligned<V>(own + j), t = load_unaligned<V>(half + j);
    const V a1 = load_unaligned<V>(a + j), a2 = load_unaligned<V>(a + k);
    const V b1 = load_unaligned<V>(b + j), b2 = load_unaligned<V>(b + k);
    const auto mixes = t != 0;
    store_unaligned(x + j, mixes ? s * a1 + t * b2 : s * a1);
    store_unaligned(x + k, mixes ? s * a2 - t * b1 : s * a2);
    store_unaligned(y + j, mixes ? s * b1 - t * a2 : s * b1);
    store_unaligned(y + k, mixes ? s * b2 + t * a1 : s * b2);
  }
  for (; j < count; ++j) {
    const int64_t k = j + distance;
    const T s = own[j], t = half[j], a1 = a[j], a2 = a[k], b1 = b[j], b2 = b[k];
    x[j] = t != 0 ? s * a1 + t * b2 : s * a1;
    x[k] = t != 0 ? s * a2 - t * b1 : s * a2;
    y[j] = t != 0 ? s * b1 - t * a2 : s * b1;
    y[k] = t != 0 ? s * b2 + t * a1 : s * b2;
  }
}

template <class T>
__attribute__((noinline)) void scale_one(const T* a, const T* own, T* x, int64_t count) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) x[j] = own[j] * a[j];
}

// The lines of scratch of one unit.
template <class T>
struct Lines {
  T *first, *a, *b, *x, *y;
  char* scratch;
  const SchurPlan& plan;

  Lines(char* memory, const SchurPlan& of)
      : first(line<T>(memory, of, 0)), a(line<T>(memory, of, 1)), b(line<T>(memory, of, 2)),
        x(line<T>(memory, of, 3)), y(line<T>(memory, of, 4)), scratch(memory), plan(of) {}
  T* own(int64_t row) const { return line<T>(scratch, plan, 5 + 2 * row); }
  T* half(int64_t row) const { return line<T>(scratch, plan, 6 + 2 * row); }
};

enum class Columns { near, pairs, runs };

inline Columns columns_of(const SchurJob& job, const SchurPiece& piece) {
  if (job.column.distance >= equikernels::kSchurRuns) return Columns::runs;
  const bool all = 2 * (piece.end_column - piece.first_column) == piece.length;
  return all && job.column.distance == 1 ? Columns::pairs : Columns::near;
}

// The two rows of a pair, columns in runs.
template <class T>
void scale_runs(const SchurJob& job, const SchurPiece& piece, int64_t repeats, const T* a, const T* b, const T* own,
                const T* half, T* x, T* y) {
  for_runs(job, piece, repeats, [&](int64_t step, int64_t at, int64_t count) {
    if (step > 0) scale_far(a + at, b + at, own + at, half + at, step, x + at, y + at, count);
    if (step != 0) return;
    scale_one(a + at, own + at, x + at, count);
    scale_one(b + at, own + at, y + at, count);
  });
}

template <class S>
void scale_unit(const SchurJob& job, int64_t unit, char* scratch) {
  typedef Compute<S> T;
  const SchurPiece piece(job, unit);
  const Lines<T> lines(scratch, job.plan);
  const Columns columns = columns_of(job, piece);
  const int64_t from_step = job.w.stride[3], to_step = job.out_stride[3];
  // Rows of the type that is computed in need no scratch where results never take the place of what is yet to be read.
  const bool direct = columns != Columns::near && sizeof(S) == sizeof(T) && from_step == 1 && to_step == 1;
  const auto scale_two = [&](int64_t repeats, int64_t count, const T* own, const T* half, const T* a, const T* b, T* x,
                             T* y) {
    if (columns == Columns::runs) scale_runs(job, piece, repeats, a, b, own, half, x, y);
    if (columns == Columns::pairs) scale_pairs(a, b, own, half, x, y, count);
    if (columns == Columns::near) scale_near(a, b, own, half, lines.first, job.column.distance, x, y, count);
  };
  mark_first_columns(job, piece, lines.first);
  repeat(lines.first, piece.length, job.plan.repeats);
  for (int64_t row = piece.first_row; row < piece.end_row; ++row) {
    fill_factors(job, piece, row, lines.own(row - piece.first_row), lines.half(row - piece.first_row));
  }
  for (int64_t index = piece.first_lead; index < piece.end_lead; ++index) {
    const Lead lead(job, index);
    const int64_t count = piece.length * lead.repeats;
    clear_sides(lines.a, job.plan, count);
    clear_sides(lines.b, job.plan, count);
    for (int64_t row = piece.first_row; row < piece.end_row; ++row) {
      const T *own = lines.own(row - piece.first_row), *half = lines.half(row - piece.first_row);
      const bool two = is_pair(job.row, row);
      const int64_t start = job.row.starts[row], partner = two ? start + job.row.distance : start;
      const S* from = static_cast<const S*>(job.w.data) + lead.offset(job.w.stride, start, piece.start);
      const S* from_partner = static_cast<const S*>(job.w.data) + lead.offset(job.w.stride, partner, piece.start);
      S* to = static_cast<S*>(job.out) + lead.offset(job.out_stride, start, piece.start);
      S* to_partner = static_cast<S*>(job.out) + lead.offset(job.out_stride, partner, piece.start);
      if (direct) {
        const T *a = reinterpret_cast<const T*>(from), *b = reinterpret_cast<const T*>(from_partner);
        T *x = reinterpret_cast<T*>(to), *y = reinterpret_cast<T*>(to_partner);
        if (two) scale_two(lead.repeats, count, own, half, a, b, x, y);
        else scale_one(a, own, x, count);
        continue;
      }
      load_line(lines.a, from, from_step, count);
      if (!two) {
        scale_one(lines.a, own, lines.x, count);
      } else {
        load_line(lines.b, from_partner, from_step, count);
        scale_two(lead.repeats, count, own, half, lines.a, lines.b, lines.x, lines.y);
        store_line(to_partner, lines.y, to_step, count);
      }
      store_line(to, lines.x, to_step, count);
    }
  }
}

// Products of the rows g, h of a block with a, b of another matrix, column by column.
__attribute__((noinline)) void add_straight(const double* __restrict g, const double* __restrict a,
                                            double* __restrict sum, int64_t count) {
  for (int64_t j = 0; j < count; ++j) sum[j] += g[j] * a[j];
}

// The same with the partners of a, b, which are at a signed distance for a run of columns of one kind.
__attribute__((noinline)) void add_crossed(const double* __restrict g, const double* __restrict h,
                                           const double* __restrict beside_a, const double* __restrict beside_b,
                                           double* __restrict sum, int64_t count) {
  for (int64_t j = 0; j < count; ++j) sum[j] += g[j] * beside_b[j] - h[j] * beside_a[j];
}

// The same, with columns whose partners are near.
__attribute__((noinline)) void add_near(const double* __restrict g, const double* __restrict h,
                                        const double* __restrict a, const double* __restrict b,
                                        const double* __restrict first, int64_t distance, double* __restrict sum,
                                        int64_t count) {
  for (int64_t j = 0; j < count; ++j) {
    const double beside_a = first[j] != 0 ? a[j + distance] : a[j - distance];
    const double beside_b = first[j] != 0 ? b[j + distance] : b[j - distance];
    sum[j] += g[j] * beside_b - h[j] * beside_a;
  }
}

// The sums of one block of rows, two numbers for every block of columns.
__attribute__((noinline)) void store_sums(const SchurJob& job, const SchurPiece& piece, int64_t row,
                                          const double* straight, const double* crossed) {
  const bool plane = is_pair(job.row, row);
  const int64_t pairs = job.row.blocks * job.column.blocks;
  double* to = job.partial + 2 * (piece.part * pairs + row * job.column.blocks);
  for (int64_t block = piece.first_column; block < piece.end_column; ++block) {
    const bool two = is_pair(job.column, block);
    double own = 0, partner = 0;
    for (int64_t k = 0; k < job.plan.repeats; ++k) {
      const int64_t at = job.column.starts[block] - piece.start + k * piece.length;
      const int64_t beside = at + job.column.distance;
      own += two ? straight[at] + straight[beside] : straight[at];
      if (two && plane) partner += crossed[at] - crossed[beside];
    }
    to[2 * block] = two && plane ? (own + partner) / 2 : own;
    to[2 * block + 1] = two && plane ? (own - partner) / 2 : 0.0;
  }
}

template <class S>
void inner_unit(const SchurJob& job, int64_t unit, char* scratch) {
  const SchurPiece piece(job, unit);
  const Lines<double> lines(scratch, job.plan);
  double *const a = lines.a, *const b = lines.b, *const g = lines.x, *const h = lines.y;
  const bool runs = job.column.distance >= equikernels::kSchurRuns;
  mark_first_columns(job, piece, lines.first);
  repeat(lines.first, piece.length, job.plan.repeats);
  for (int64_t row = 0; row < piece.end_row - piece.first_row; ++row) {
    memset(lines.own(row), 0, size_t(piece.length * job.plan.repeats) * sizeof(double));
    memset(lines.half(row), 0, size_t(piece.length * job.plan.repeats) * sizeof(double));
  }
  for (int64_t index = piece.first_lead; index < piece.end_lead; ++index) {
    const Lead lead(job, index);
    const int64_t count = piece.length * lead.repeats;
    clear_sides(a, job.plan, count);
    clear_sides(b, job.plan, count);
    for (int64_t row = piece.first_row; row < piece.end_row; ++row) {
      double *straight = lines.own(row - piece.first_row), *crossed = lines.half(row - piece.first_row);
      const int64_t start = job.row.starts[row];
      const S* w = static_cast<const S*>(job.w.data) + lead.offset(job.w.stride, start, piece.start);
      const S* grad = static_cast<const S*>(job.grad.data) + lead.offset(job.grad.stride, start, piece.start);
      load_line(a, w, job.w.stride[3], count);
      load_line(g, grad, job.grad.stride[3], count);
      add_straight(g, a, straight, count);
      if (!is_pair(job.row, row)) continue;
      load_line(b, w + job.row.distance * job.w.stride[2], job.w.stride[3], count);
      load_line(h, grad + job.row.distance * job.grad.stride[2], job.grad.stride[3], count);
      add_straight(h, b, straight, count);
      if (!runs) {
        add_near(g, h, a, b, lines.first, job.column.distance, crossed, count);
        continue;
      }
      for_runs(job, piece, lead.repeats, [&](int64_t step, int64_t at, int64_t length) {
        if (step != 0) add_crossed(g + at, h + at, a + at + step, b + at + step, crossed + at, length);
      });
    }
  }
  for (int64_t row = piece.first_row; row < piece.end_row; ++row) {
    store_sums(job, piece, row, lines.own(row - piece.first_row), lines.half(row - piece.first_row));
  }
}

// In the order of equikernels::Storage.
#define EQUIKERNELS_SCHUR_BY_STORAGE(kernel) { kernel<float>, kernel<double>, kernel<Bf16>, kernel<Half> }
#define EQUIKERNELS_SCHUR_TABLE { EQUIKERNELS_SCHUR_BY_STORAGE(scale_unit), EQUIKERNELS_SCHUR_BY_STORAGE(inner_unit) }

}  // namespace
