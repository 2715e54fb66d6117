#include "change.h"

#include <cstdlib>
#include <new>

#include "isa.h"

namespace equikernels {
namespace {

const ChangeKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return change_kernels_avx512;
    case Isa::avx2: return change_kernels_avx2;
#endif
    default: return change_kernels_baseline;
  }
}

// Values below which a second thread costs more than it brings.
constexpr int64_t kSmall = 1 << 14;

}  // namespace

void change_basis(const ChangeJob& job, int threads) {
  const ChangePanel panel = kernels().panel[job.is_double];
  const int64_t width = kPanelBytes / (job.is_double ? 8 : 4);
  const int64_t units = job.samples * ((job.lanes + width - 1) / width);
  int64_t team = threads < units ? threads : units;
  if (job.samples * job.dim * job.lanes < kSmall) team = 1;
  const size_t bytes = size_t(2 * kPanelBytes * job.dim);
  bool failed = false;
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    char* scratch = static_cast<char*>(std::aligned_alloc(64, bytes));
    failed = scratch == nullptr;
    for (int64_t i = 0; i < units && !failed; ++i) panel(job, i, scratch);
    std::free(scratch);
  } else {
#pragma omp parallel num_threads(int(team)) reduction(|| : failed)
    {
      char* scratch = static_cast<char*>(std::aligned_alloc(64, bytes));
      failed = scratch == nullptr;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < units; ++i) {
        if (!failed) panel(job, i, scratch);
      }
      std::free(scratch);
    }
  }
  if (failed) throw std::bad_alloc();
}

}  // namespace equikernels
