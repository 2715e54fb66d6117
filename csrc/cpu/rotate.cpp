#include "rotate.h"

#include <vector>

#include "isa.h"
#include "rotate_plan.h"

namespace equikernels {
namespace {

const RotateKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return rotate_kernels_avx512;
    case Isa::avx2: return rotate_kernels_avx2;
#endif
    default: return rotate_kernels_baseline;
  }
}

struct Call {
  const RotateJob& job;
  RotateUnit unit;
};

void run(const RotateJob& job, RotateUnit unit, int threads) {
  const Call call{job, unit};
  const auto one = [](const void* context, int64_t index, char* scratch) {
    const Call& c = *static_cast<const Call*>(context);
    c.unit(c.job, index, scratch);
  };
  run_units(job, scratch_bytes(job), threads, one, &call);
}

template <class T>
void reduce(const RotateJob& job, T* theta_grad) {
  const int64_t each = job.batch == 0 ? 0 : job.plan.units / job.batch;
  for (int64_t n = 0; n < job.batch; ++n) {
    double sum = 0;
    for (int64_t i = 0; i < each; ++i) sum += job.partial[n * each + i];
    theta_grad[n] = T(sum);
  }
}

}  // namespace

void rotate_apply(RotateJob job, int threads) {
  if (empty(job)) return;
  job.plan = make_plan(job);
  run(job, kernels().apply[int(job.storage)], threads);
}

void rotate_backward(RotateJob job, void* theta_grad, int threads) {
  if (empty(job)) return;
  job.plan = make_plan(job);
  const RotateKernels& table = kernels();
  const int storage = int(job.storage);
  const bool one_tile = job.plan.tiles_y * job.plan.tiles_x == 1;
  std::vector<double> partial(theta_grad != nullptr ? size_t(job.plan.units) : 0);
  if (job.out != nullptr) {
    // With several tiles an output pixel is visited by every tile it touches, so the angle
    // gradient, which must count it once, takes its own pass.
    job.partial = theta_grad != nullptr && one_tile ? partial.data() : nullptr;
    run(job, table.adjoint[storage], threads);
  }
  if (theta_grad == nullptr) return;
  job.partial = partial.data();
  if (job.out == nullptr || !one_tile) run(job, table.angle[storage], threads);
  if (job.storage == Storage::f64) {
    reduce(job, static_cast<double*>(theta_grad));
  } else {
    reduce(job, static_cast<float*>(theta_grad));
  }
}

}  // namespace equikernels
