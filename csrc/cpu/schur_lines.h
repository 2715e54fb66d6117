// Rows of a matrix, or of several side by side, as lines of scratch in the type that is computed in, and back.
#pragma once

#include "schur.h"
#include "storage.h"

namespace {

using equikernels::Images;
using equikernels::SchurAxis;
using equikernels::SchurJob;
using equikernels::SchurPlan;
using equikernels::Storage;

// As wide as the instruction set has them.
#if defined(__AVX512F__)
constexpr int kWideBytes = 64;
#elif defined(__AVX__)
constexpr int kWideBytes = 32;
#else
constexpr int kWideBytes = 16;
#endif
template <class T> struct Wide { typedef T type __attribute__((vector_size(kWideBytes))); };

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Whether a block has two coordinates.
inline bool is_pair(const SchurAxis& axis, int64_t block) { return axis.places[3 * axis.starts[block] + 1] > 0; }

// The part of the work that one unit does.
struct SchurPiece {
  int64_t part;
  int64_t first_row, end_row;        // blocks
  int64_t first_column, end_column;  // blocks
  int64_t start, length;             // columns
  int64_t first_lead, end_lead;

  SchurPiece(const SchurJob& job, int64_t unit) {
    const SchurPlan& plan = job.plan;
    part = unit % plan.parts;
    const int64_t band = unit / plan.parts % plan.bands;
    const int64_t* cut = plan.cuts + 2 * (unit / plan.parts / plan.bands);
    first_row = band * plan.band;
    end_row = smaller(first_row + plan.band, job.row.blocks);
    start = cut[0];
    first_column = cut[1];
    length = cut[2] - start;
    end_column = cut[3];
    first_lead = part * plan.leads_of_unit;
    end_lead = smaller(first_lead + plan.leads_of_unit, plan.leads);
  }
};

// One matrix, or several side by side.
struct Lead {
  int64_t outer, inner, repeats;

  Lead(const SchurJob& job, int64_t index) {
    const int64_t groups = (job.inner + job.plan.repeats - 1) / job.plan.repeats;
    outer = index / groups;
    inner = index % groups * job.plan.repeats;
    repeats = smaller(job.plan.repeats, job.inner - inner);
  }
  int64_t offset(const int64_t* stride, int64_t row, int64_t column) const {
    return outer * stride[0] + inner * stride[1] + row * stride[2] + column * stride[3];
  }
};

inline void load_line(double* __restrict to, const float* from, int64_t stride, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}

template <class S, class T>
inline void load_line(T* __restrict to, const S* from, int64_t stride, int64_t count) {
  int64_t i = 0;
  for (; stride == 1 && i + 4 <= count; i += 4) {
    store_unaligned(to + i, __builtin_convertvector(load4(from + i), Vector<T>));
  }
  for (; i < count; ++i) to[i] = T(load_some(from + i * stride, 1, 1)[0]);
}

inline void load_line(float* __restrict to, const float* from, int64_t stride, int64_t count) {
  if (stride == 1) {
    memcpy(to, from, size_t(count) * sizeof(float));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
  }
}

inline void load_line(double* __restrict to, const double* from, int64_t stride, int64_t count) {
  if (stride == 1) {
    memcpy(to, from, size_t(count) * sizeof(double));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
  }
}

template <class S>
inline void store_line(S* to, const Compute<S>* __restrict from, int64_t stride, int64_t count) {
  int64_t i = 0;
  for (; stride == 1 && i + 4 <= count; i += 4) store4(to + i, load4(from + i));
  for (; i < count; ++i) store_some(to + i * stride, load_some(from + i, 1, 1), 1);
}

template <class T>
inline T* line(char* scratch, const SchurPlan& plan, int64_t index) {
  return reinterpret_cast<T*>(scratch) + index * plan.pitch + plan.pad;
}

// Values beside a line are read where neighbours are, and not used.
template <class T>
inline void clear_sides(T* values, const SchurPlan& plan, int64_t count) {
  for (int64_t i = 0; i < plan.pad; ++i) values[-1 - i] = values[count + i] = 0;
}

// 1 for the first column of a pair; 0 for all others.
template <class T>
inline void mark_first_columns(const SchurJob& job, const SchurPiece& piece, T* first) {
  for (int64_t i = 0; i < piece.length; ++i) first[i] = job.column.places[3 * (piece.start + i) + 1] > 0 ? T(1) : T(0);
}

// The same for all matrices that lie side by side.
template <class T>
inline void repeat(T* values, int64_t length, int64_t repeats) {
  for (int64_t i = length; i < length * repeats; ++i) values[i] = values[i - length];
}

// Calls visit(step, start, length) for every longest run of columns, of all matrices side by side, with one step to
// the partner.
template <class Visit>
inline void for_runs(const SchurJob& job, const SchurPiece& piece, int64_t repeats, const Visit& visit) {
  const int32_t* places = job.column.places + 3 * piece.start;
  for (int64_t begin = 0, end = 0; begin < piece.length; begin = end) {
    const int32_t step = places[3 * begin + 1];
    while (end < piece.length && places[3 * end + 1] == step) ++end;
    for (int64_t k = 0; k < repeats; ++k) visit(int64_t(step), begin + k * piece.length, end - begin);
  }
}

}  // namespace
