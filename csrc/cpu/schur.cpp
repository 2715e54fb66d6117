#include "schur.h"

#include <cstdlib>
#include <new>
#include <vector>

#include "isa.h"

namespace equikernels {
namespace {

// Columns of a line of scratch, about.
constexpr int64_t kLine = 1024;
// Values of the factors of one band of rows: they stay in the first cache beside the rows.
constexpr int64_t kBand = 2048;
// Values of one unit, at least; and how often its factors are used, where there are so many matrices.
constexpr int64_t kUnit = 1 << 15;
constexpr int64_t kUses = 32;
// Parts of a sum over matrices.
constexpr int64_t kParts = 64;
// Below this, waking another thread costs more than it saves.
constexpr int64_t kSerial = 1 << 14;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

const SchurKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return schur_kernels_avx512;
    case Isa::avx2: return schur_kernels_avx2;
#endif
    default: return schur_kernels_baseline;
  }
}

bool side_by_side(const SchurJob& job, const int64_t* stride) {
  return stride[3] == 1 && stride[1] == job.column.size;
}

// Pairs of a column and the first block from there on. No chunk of columns parts a pair, however long it gets.
std::vector<int64_t> cuts_of(const SchurAxis& column) {
  std::vector<int64_t> cuts{0, 0};
  int64_t blocks = 0, open = 0, allowed = 0, allowed_block = 0;
  for (int64_t i = 0; i < column.size; ++i) {
    if (open == 0) {
      allowed = i;
      allowed_block = blocks;
    }
    if (i - cuts[cuts.size() - 2] >= kLine && allowed > cuts[cuts.size() - 2]) {
      cuts.insert(cuts.end(), {allowed, allowed_block});
    }
    const int32_t step = column.places[3 * i + 1];
    open += (step > 0) - (step < 0);
    blocks += step >= 0;
  }
  cuts.insert(cuts.end(), {column.size, column.blocks});
  return cuts;
}

int64_t longest(const std::vector<int64_t>& cuts) {
  int64_t length = 0;
  for (size_t i = 2; i < cuts.size(); i += 2) length = larger(length, cuts[i] - cuts[i - 2]);
  return length;
}

SchurPlan plan_of(const SchurJob& job, const std::vector<int64_t>& cuts, bool long_rows, bool sums) {
  SchurPlan plan{};
  const int64_t columns = job.column.size;
  plan.cuts = cuts.data();
  plan.chunks = int64_t(cuts.size()) / 2 - 1;
  plan.repeats = long_rows && plan.chunks == 1 ? larger(1, smaller(job.inner, kLine / columns)) : 1;
  plan.leads = job.outer * ceil_div(job.inner, plan.repeats);
  const int64_t line = longest(cuts) * plan.repeats;
  plan.pad = job.column.distance < kSchurRuns ? 16 : 0;
  plan.pitch = ceil_div(line, 16) * 16 + 2 * plan.pad;
  plan.band = larger(1, smaller(job.row.blocks, kBand / line));
  plan.bands = ceil_div(job.row.blocks, plan.band);
  const int64_t values = plan.band * 2 * line;
  plan.leads_of_unit = smaller(plan.leads, larger(kUses, ceil_div(kUnit, values)));
  if (sums) plan.leads_of_unit = larger(plan.leads_of_unit, ceil_div(plan.leads, kParts));
  plan.parts = ceil_div(plan.leads, plan.leads_of_unit);
  plan.units = plan.chunks * plan.bands * plan.parts;
  return plan;
}

void run(const SchurJob& job, SchurUnit unit, int threads) {
  const SchurPlan& plan = job.plan;
  int64_t team = threads < plan.units ? threads : plan.units;
  if (job.outer * job.inner * job.row.size * job.column.size <= kSerial) team = 1;
  // Doubles, and of every block of rows two lines, besides the rows themselves.
  const size_t bytes = (sizeof(double) * size_t((5 + 2 * plan.band) * plan.pitch) + 63) / 64 * 64;
  bool failed = false;
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    char* scratch = static_cast<char*>(std::aligned_alloc(64, bytes));
    failed = scratch == nullptr;
    for (int64_t i = 0; i < plan.units && !failed; ++i) unit(job, i, scratch);
    std::free(scratch);
  } else {
#pragma omp parallel num_threads(team) reduction(|| : failed)
    {
      char* scratch = static_cast<char*>(std::aligned_alloc(64, bytes));
      failed = scratch == nullptr;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < plan.units; ++i) {
        if (!failed) unit(job, i, scratch);
      }
      std::free(scratch);
    }
  }
  if (failed) throw std::bad_alloc();
}

// What the places of an axis say, found once.
std::vector<int64_t> complete(SchurAxis& axis) {
  std::vector<int64_t> starts;
  axis.distance = 1;
  for (int64_t i = 0; i < axis.size; ++i) {
    const int32_t step = axis.places[3 * i + 1];
    if (step >= 0) starts.push_back(i);
    if (step > 0) axis.distance = step;
  }
  axis.starts = starts.data();
  axis.blocks = int64_t(starts.size());
  return starts;
}

bool empty(const SchurJob& job) {
  return job.outer == 0 || job.inner == 0 || job.row.size == 0 || job.column.size == 0;
}

}  // namespace

void schur_scale(SchurJob job, int threads) {
  if (empty(job)) return;
  const std::vector<int64_t> rows = complete(job.row), columns = complete(job.column);
  const std::vector<int64_t> cuts = cuts_of(job.column);
  const bool long_rows = side_by_side(job, job.w.stride) && side_by_side(job, job.out_stride);
  job.plan = plan_of(job, cuts, long_rows, false);
  run(job, kernels().scale[int(job.storage)], threads);
}

void schur_inner(SchurJob job, void* same, void* opposite, int threads) {
  if (empty(job)) return;
  const std::vector<int64_t> rows = complete(job.row), columns = complete(job.column);
  const std::vector<int64_t> cuts = cuts_of(job.column);
  const bool long_rows = side_by_side(job, job.w.stride) && side_by_side(job, job.grad.stride);
  job.plan = plan_of(job, cuts, long_rows, true);
  const int64_t pairs = job.row.blocks * job.column.blocks;
  std::vector<double> partial(size_t(2 * pairs * job.plan.parts));
  job.partial = partial.data();
  run(job, kernels().inner[int(job.storage)], threads);
  for (int64_t i = 0; i < pairs; ++i) {
    double sums[2] = {0, 0};
    for (int64_t part = 0; part < job.plan.parts; ++part) {
      for (int64_t k = 0; k < 2; ++k) sums[k] += partial[size_t(2 * (part * pairs + i) + k)];
    }
    for (int64_t k = 0; k < 2; ++k) {
      void* to = k == 0 ? same : opposite;
      if (job.storage == Storage::f64) {
        static_cast<double*>(to)[i] = sums[k];
      } else {
        static_cast<float*>(to)[i] = float(sums[k]);
      }
    }
  }
}

}  // namespace equikernels
