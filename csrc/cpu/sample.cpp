#include "sample.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa.h"

namespace equikernels {
namespace {

// Beyond this, float32 no longer tells neighbouring pixels apart.
constexpr int64_t kLargestSide = int64_t(1) << 22;
// Pixels of a frame are counted by 32 bits.
constexpr int64_t kLargestFrame = int64_t(1) << 31;
// With fewer planes than this, threads share a plane, if it is larger than kSmallPlane.
constexpr int64_t kEnoughPlanes = 8;
constexpr int64_t kSmallPlane = 64 * 64;
constexpr int64_t kSharedBands = 16;
// Pixels (times channels) below which waking another thread costs more than it saves.
constexpr int64_t kSerialWork = 4096;
// Values in a pixel of a frame.
constexpr int64_t kLanes = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int form_of(const SampleJob& job) { return job.dims == 2 ? job.taps / 2 : 3 + job.taps / 2; }

SamplePlan make_plan(const SampleJob& job) {
  SamplePlan plan{};
  plan.groups = ceil_div(job.channels, kLanes);
  plan.planes = job.batch * plan.groups;
  // All taps of a place far outside must fall into the margin.
  plan.margin = job.taps;
  plan.depth_margin = job.dims == 3 ? job.taps : 0;
  plan.pitch = job.width + 2 * plan.margin;
  plan.lines = job.height + 2 * plan.margin;
  plan.slices = job.depth + 2 * plan.depth_margin;
  const int64_t value = job.storage == Storage::f64 ? sizeof(double) : sizeof(float);
  // A block of four pixels may be read where the last row ends.
  plan.frame_bytes = ceil_div((plan.pitch * plan.lines * plan.slices + 4) * kLanes * value, 64) * 64;
  plan.rows = job.depth * job.height;
  plan.shared = plan.planes < kEnoughPlanes && plan.rows * job.width > kSmallPlane;
  plan.band_rows = plan.shared ? ceil_div(plan.rows, kSharedBands) : plan.rows;
  plan.bands = ceil_div(plan.rows, plan.band_rows);
  return plan;
}

struct Free {
  void operator()(char* p) const { std::free(p); }
};
using Memory = std::unique_ptr<char, Free>;

Memory allocate(int64_t bytes) {
  return Memory(static_cast<char*>(std::aligned_alloc(64, size_t(ceil_div(bytes, 64) * 64))));
}

// Small frames are kept for the next call, with the thread they belong to.
constexpr int64_t kKept = int64_t(8) << 20;
struct Kept {
  Memory memory;
  int64_t size = 0;
};
thread_local Kept kept;

// Calls body(i, scratch) for i < count, each thread with scratch memory of its own.
template <class Body>
void for_each(int64_t count, int64_t team, int64_t scratch_bytes, const Body& body) {
  team = team < count ? team : count;
  bool failed = false;
  const auto scratch = [&](Memory& own) {
    if (scratch_bytes > kKept) {
      own = allocate(scratch_bytes);
      return own.get();
    }
    if (scratch_bytes > kept.size) {
      kept.size = 0;
      kept.memory = allocate(scratch_bytes);
      if (kept.memory) kept.size = scratch_bytes;
    }
    return kept.memory.get();
  };
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    Memory own;
    char* memory = scratch(own);
    failed = scratch_bytes > 0 && memory == nullptr;
    for (int64_t i = 0; i < count && !failed; ++i) body(i, memory);
  } else {
#pragma omp parallel num_threads(team) reduction(|| : failed)
    {
      Memory own;
      char* memory = scratch(own);
      failed = scratch_bytes > 0 && memory == nullptr;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < count; ++i) {
        if (!failed) body(i, memory);
      }
    }
  }
  if (failed) throw std::bad_alloc();
}

const SampleKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return sample_kernels_avx512;
    case Isa::avx2: return sample_kernels_avx2;
#endif
    default: return sample_kernels_baseline;
  }
}

bool empty(const SampleJob& job) {
  return job.batch == 0 || job.channels == 0 || job.depth == 0 || job.height == 0 || job.width == 0;
}

int64_t team_for(const SampleJob& job, int threads) {
  const int64_t work = job.plan.planes * job.plan.rows * job.width * kLanes;
  return work <= kSerialWork ? 1 : threads;
}

// One frame for all threads, which fill it together.
void fill_together(const SampleJob& job, int64_t plane, int64_t team, char* frame) {
  const auto fill = kernels().fill[int(job.storage)];
  const int64_t rows = job.plan.slices * job.plan.lines, band = ceil_div(rows, kSharedBands);
  for_each(ceil_div(rows, band), team, 0, [&](int64_t i, char*) {
    fill(job, plane, i * band, (i + 1) * band < rows ? (i + 1) * band : rows, frame);
  });
}

struct Rows {
  int64_t begin, end;
};

Rows band_rows(const SamplePlan& plan, int64_t band) {
  const int64_t begin = band * plan.band_rows, end = begin + plan.band_rows;
  return {begin, end < plan.rows ? end : plan.rows};
}

template <class T>
void reduce(const SampleJob& job, const std::vector<double>& partial, T* matrix_grad) {
  const int64_t each = job.plan.groups * job.plan.bands, entries = job.dims * (job.dims + 1);
  for (int64_t n = 0; n < job.batch; ++n) {
    for (int64_t e = 0; e < entries; ++e) {
      double sum = 0;
      for (int64_t i = n * each; i < (n + 1) * each; ++i) sum += partial[i * kMatrixEntries + e];
      matrix_grad[n * entries + e] = T(sum);
    }
  }
}

}  // namespace

void check_sample_size(const SampleJob& job) {
  const std::string came = std::to_string(job.depth) + " x " + std::to_string(job.height) + " x " + std::to_string(job.width);
  if (job.width > kLargestSide || job.height > kLargestSide || job.depth > kLargestSide) {
    throw std::invalid_argument("z: expected at most " + std::to_string(kLargestSide) + " pixels a side, got " + came);
  }
  const int64_t margin = 2 * job.taps;
  if ((job.width + margin) * (job.height + margin) > kLargestFrame ||
      (job.width + margin) * (job.height + margin) * (job.depth + (job.dims == 3 ? margin : 0)) > kLargestFrame) {
    throw std::invalid_argument("z: expected fewer than " + std::to_string(kLargestFrame) + " pixels, got " + came);
  }
}

void sample_apply(SampleJob job, int threads) {
  if (empty(job)) return;
  job.plan = make_plan(job);
  const SamplePlan& plan = job.plan;
  const SampleKernels& table = kernels();
  const auto apply = table.apply[int(job.storage)][form_of(job)];
  const int64_t team = team_for(job, threads);
  if (!plan.shared) {
    const auto fill = table.fill[int(job.storage)];
    for_each(plan.planes, team, plan.frame_bytes, [&](int64_t plane, char* frame) {
      fill(job, plane, 0, plan.slices * plan.lines, frame);
      apply(job, plane, 0, plan.rows, frame);
    });
    return;
  }
  const Memory frame = allocate(plan.frame_bytes);
  if (!frame) throw std::bad_alloc();
  for (int64_t plane = 0; plane < plan.planes; ++plane) {
    fill_together(job, plane, team, frame.get());
    for_each(plan.bands, team, 0, [&](int64_t band, char*) {
      const Rows rows = band_rows(plan, band);
      apply(job, plane, rows.begin, rows.end, frame.get());
    });
  }
}

void sample_backward(SampleJob job, void* matrix_grad, int threads) {
  if (empty(job)) return;
  job.plan = make_plan(job);
  const SamplePlan& plan = job.plan;
  const SampleKernels& table = kernels();
  const int storage = int(job.storage);
  const auto backward = table.backward[storage][form_of(job)];
  const int64_t team = team_for(job, threads);
  const bool adjoint = job.out != nullptr, matrix = matrix_grad != nullptr;
  // Derivatives of so high an order vanish, and z is not read for them.
  const bool reads = matrix && job.order < job.dims * (job.taps - 1);
  std::vector<double> partial(matrix ? size_t(plan.planes * plan.bands * kMatrixEntries) : 0);
  const auto share = [&](int64_t plane, int64_t band) {
    return matrix ? partial.data() + (plane * plan.bands + band) * kMatrixEntries : nullptr;
  };
  if (!plan.shared) {
    const int64_t sum_at = reads ? plan.frame_bytes : 0;
    for_each(plan.planes, team, sum_at + (adjoint ? plan.frame_bytes : 0), [&](int64_t plane, char* memory) {
      char* sum = adjoint ? memory + sum_at : nullptr;
      if (reads) table.fill[storage](job, plane, 0, plan.slices * plan.lines, memory);
      if (adjoint) std::memset(sum, 0, size_t(plan.frame_bytes));
      backward(job, plane, 0, plan.rows, memory, sum, share(plane, 0));
      if (adjoint) table.finish[storage](job, plane, sum);
    });
  } else {
    if (adjoint) {
      // What a pixel receives comes from everywhere, so the adjoint of a plane is one unit.
      for_each(plan.planes, team, plan.frame_bytes, [&](int64_t plane, char* sum) {
        std::memset(sum, 0, size_t(plan.frame_bytes));
        backward(job, plane, 0, plan.rows, nullptr, sum, nullptr);
        table.finish[storage](job, plane, sum);
      });
    }
    if (matrix) {
      const Memory frame = allocate(plan.frame_bytes);
      if (!frame) throw std::bad_alloc();
      for (int64_t plane = 0; plane < plan.planes; ++plane) {
        if (reads) fill_together(job, plane, team, frame.get());
        for_each(plan.bands, team, 0, [&](int64_t band, char*) {
          const Rows rows = band_rows(plan, band);
          backward(job, plane, rows.begin, rows.end, frame.get(), nullptr, share(plane, band));
        });
      }
    }
  }
  if (!matrix) return;
  if (job.storage == Storage::f64) {
    reduce(job, partial, static_cast<double*>(matrix_grad));
  } else {
    reduce(job, partial, static_cast<float*>(matrix_grad));
  }
}

}  // namespace equikernels
