// One panel of a change of basis. Included once by every unit of one instruction set; see storage.h.
#pragma once

#include "change.h"
#include "storage.h"

namespace {

using equikernels::ChangeFamily;
using equikernels::ChangeJob;
using equikernels::ChangeStage;

// As wide as the instruction set has them, and as many results side by side as its registers hold.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kMostResults = 7;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr int kMostResults = 4;
#else
constexpr int kVectorBytes = 16;
constexpr int kMostResults = 4;
#endif
constexpr int kTogether = 3;  // vectors
template <class T> struct LanesOf;
template <> struct LanesOf<float> { typedef float type __attribute__((vector_size(kVectorBytes))); };
template <> struct LanesOf<double> { typedef double type __attribute__((vector_size(kVectorBytes))); };
template <class T> using Lanes = typename LanesOf<T>::type;
template <class T> constexpr int64_t kVector = kVectorBytes / sizeof(T);
template <class T> constexpr int64_t kPanel = equikernels::kPanelBytes / sizeof(T);

// Rows of a panel, or of memory that is like one: coordinate c begins at data + c * pitch.
template <class T>
struct Rows {
  T* data;
  int64_t pitch;
};

// kResults results, from `first` on, of every orbit in kCount vectors of lanes.
template <class T, int kResults, int kCount>
__attribute__((noinline)) void mix(const ChangeFamily& family, int64_t first, const Rows<const T>& x, const Rows<T>& y) {
  for (int64_t orbit = 0; orbit < family.orbits; ++orbit) {
    Lanes<T> sums[kResults][kCount];
    for (int a = 0; a < kResults; ++a) {
      for (int k = 0; k < kCount; ++k) sums[a][k] = Lanes<T>{};
    }
    const T* weights = static_cast<const T*>(family.weights) + first;
    const int32_t* input = family.inputs + orbit;
    for (int64_t b = 0; b < family.size; ++b) {
      const T* from = x.data + *input * x.pitch;
      Lanes<T> values[kCount];
      for (int k = 0; k < kCount; ++k) values[k] = load_unaligned<Lanes<T>>(from + k * kVector<T>);
      for (int a = 0; a < kResults; ++a) {
        for (int k = 0; k < kCount; ++k) sums[a][k] += weights[a] * values[k];
      }
      input += family.orbits;
      weights += family.size;
    }
    const int32_t* result = family.results + first * family.orbits + orbit;
    for (int a = 0; a < kResults; ++a) {
      T* to = y.data + result[a * family.orbits] * y.pitch;
      for (int k = 0; k < kCount; ++k) store_unaligned(to + k * kVector<T>, sums[a][k]);
    }
  }
}

template <class T, int kCount>
void mix_some(int64_t results, const ChangeFamily& family, int64_t first, const Rows<const T>& x, const Rows<T>& y) {
  switch (results) {
    case 1: return mix<T, 1, kCount>(family, first, x, y);
    case 2: return mix<T, 2, kCount>(family, first, x, y);
    case 3: return mix<T, 3, kCount>(family, first, x, y);
    case 4: return mix<T, 4, kCount>(family, first, x, y);
#if defined(__AVX512F__)
    case 5: return mix<T, 5, kCount>(family, first, x, y);
    case 6: return mix<T, 6, kCount>(family, first, x, y);
    case 7: return mix<T, 7, kCount>(family, first, x, y);
#endif
  }
}

// One stage in `vectors` vectors of lanes.
template <class T>
void apply_stage(const ChangeStage& stage, int64_t vectors, const Rows<const T>& x, const Rows<T>& y) {
  for (int64_t f = 0; f < stage.count; ++f) {
    const ChangeFamily& family = stage.families[f];
    // Shares as equal as they can be: none is left with one result.
    const int64_t shares = (family.size + kMostResults - 1) / kMostResults;
    for (int64_t share = 0; share < shares; ++share) {
      const int64_t first = family.size * share / shares;
      const int64_t results = family.size * (share + 1) / shares - first;
      for (int64_t k = 0; k < vectors;) {
        const Rows<const T> from = {x.data + k * kVector<T>, x.pitch};
        const Rows<T> to = {y.data + k * kVector<T>, y.pitch};
        const bool all = vectors - k >= kTogether;
        (all ? mix_some<T, kTogether> : mix_some<T, 1>)(results, family, first, from, to);
        k += all ? kTogether : 1;
      }
    }
  }
}

// Lanes `stride` apart, their coordinates side by side, into a panel, or `back` out of one.
template <class T>
void transpose(T* memory, int64_t stride, T* panel, int64_t dim, int64_t lanes, bool back) {
  for (int64_t lane = 0; lane < lanes; lane += 4) {
    const int64_t rows = lanes - lane < 4 ? lanes - lane : 4;
    for (int64_t c = 0; c < dim; c += 4) {
      const int64_t columns = dim - c < 4 ? dim - c : 4;
      T* corner = memory + lane * stride + c;
      T* to = panel + c * kPanel<T> + lane;
      if (rows < 4 || columns < 4) {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            if (back) corner[i * stride + j] = to[j * kPanel<T> + i];
            else to[j * kPanel<T> + i] = corner[i * stride + j];
          }
        }
        continue;
      }
      Vector<T> square[4];
      for (int64_t i = 0; i < 4; ++i) square[i] = load4(back ? to + i * kPanel<T> : corner + i * stride);
      transpose4(square);
      for (int64_t i = 0; i < 4; ++i) store4(back ? corner + i * stride : to + i * kPanel<T>, square[i]);
    }
  }
}

// Runs of lanes into a panel, or out of one.
template <class T>
void copy_rows(T* memory, int64_t stride, T* panel, int64_t dim, int64_t lanes, bool back) {
  for (int64_t c = 0; c < dim; ++c) {
    T *there = memory + c * stride, *here = panel + c * kPanel<T>;
    memcpy(back ? there : here, back ? here : there, size_t(lanes) * sizeof(T));
  }
}

template <class T>
void move(T* memory, const int64_t* stride, T* panel, int64_t dim, int64_t lanes, bool back) {
  if (stride[2] == 1) copy_rows(memory, stride[1], panel, dim, lanes, back);
  else transpose(memory, stride[2], panel, dim, lanes, back);
}

template <class T>
void change_panel(const ChangeJob& job, int64_t unit, char* scratch) {
  T* panels[2] = {reinterpret_cast<T*>(scratch), reinterpret_cast<T*>(scratch) + kPanel<T> * job.dim};
  const int64_t strips = (job.lanes + kPanel<T> - 1) / kPanel<T>;
  const int64_t sample = unit / strips, start = unit % strips * kPanel<T>;
  const int64_t lanes = job.lanes - start < kPanel<T> ? job.lanes - start : kPanel<T>;
  const int64_t vectors = (lanes + kVector<T> - 1) / kVector<T>;
  T* x = const_cast<T*>(static_cast<const T*>(job.x)) + sample * job.x_stride[0] + start * job.x_stride[2];
  T* y = static_cast<T*>(job.y) + sample * job.y_stride[0] + start * job.y_stride[2];
  const bool full = lanes == vectors * kVector<T>;
  // A single stage must not write what it has yet to read.
  const bool read_directly = full && job.x_stride[2] == 1 && (job.count > 1 || job.x != job.y);
  const bool write_directly = full && job.y_stride[2] == 1;
  Rows<const T> from = {x, job.x_stride[1]};
  if (!read_directly) {
    // Lanes beyond the last one are computed and dropped: they need to hold some number.
    if (!full) memset(panels[0], 0, size_t(kPanel<T> * job.dim) * sizeof(T));
    move(x, job.x_stride, panels[0], job.dim, lanes, false);
    from = {panels[0], kPanel<T>};
  }
  for (int64_t k = 0; k < job.count; ++k) {
    T* panel = panels[from.data == panels[0]];
    const bool direct = k + 1 == job.count && write_directly;
    const Rows<T> to = {direct ? y : panel, direct ? job.y_stride[1] : kPanel<T>};
    apply_stage<T>(job.stages[k], vectors, from, to);
    from = {to.data, to.pitch};
  }
  if (!write_directly) move(y, job.y_stride, const_cast<T*>(from.data), job.dim, lanes, true);
}

#define EQUIKERNELS_CHANGE_TABLE { { change_panel<float>, change_panel<double> } }

}  // namespace
