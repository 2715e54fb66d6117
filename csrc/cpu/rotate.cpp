#include "rotate.h"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "isa.h"

namespace equikernels {
namespace {

// Images up to this size are one unit of work per sample and channel group. Two interleaved planes
// of this size (input and gradient) still fit a second-level cache.
constexpr int64_t kWholeSide = 128;
constexpr int64_t kLargeTile = 64;
constexpr int64_t kSmallTile = 32;
// Fewer units than this, and the image is cut further so that several threads find work.
constexpr int64_t kEnoughUnits = 8;
// Pixels (times lanes) below which waking another thread costs more than it saves.
constexpr int64_t kSerialWork = 4096;
// Zero pixels around a scratch image on each side, see rotate_geometry.h.
constexpr int64_t kMargin = 2;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

RotatePlan make_plan(const RotateJob& job) {
  RotatePlan plan{};
  plan.lanes = job.channels == 1 ? 1 : 4;
  plan.groups = ceil_div(job.channels, plan.lanes);
  const int64_t planes = job.batch * plan.groups;
  const int64_t area = job.height * job.width;
  const auto units_for = [&](int64_t tile) {
    return planes * ceil_div(job.height, tile) * ceil_div(job.width, tile);
  };
  const bool small = job.height <= kWholeSide && job.width <= kWholeSide;
  if (small && (planes >= kEnoughUnits || area <= kSmallTile * kSmallTile)) {
    plan.tile_height = job.height;
    plan.tile_width = job.width;
  } else {
    plan.tile_height = plan.tile_width = units_for(kLargeTile) >= kEnoughUnits ? kLargeTile : kSmallTile;
  }
  plan.tiles_y = ceil_div(job.height, plan.tile_height);
  plan.tiles_x = ceil_div(job.width, plan.tile_width);
  plan.units = planes * plan.tiles_y * plan.tiles_x;
  return plan;
}

// Two scratch images of four values a pixel and a flat one (see rotate_channels.h, rotate_plane.h);
// the largest is the bounding box of a turned tile, cut to the image.
size_t scratch_bytes(const RotateJob& job) {
  const RotatePlan& plan = job.plan;
  const double diagonal = std::hypot(double(plan.tile_height), double(plan.tile_width));
  const int64_t reach = int64_t(diagonal) + 8;
  const int64_t height = (reach < job.height ? reach : job.height) + 2 * kMargin;
  const int64_t width = (reach < job.width ? reach : job.width) + 2 * kMargin;
  const size_t scalar = job.storage == Storage::f64 ? sizeof(double) : sizeof(float);
  const size_t flat = size_t(height) * size_t(width) * scalar;
  return 9 * flat + 3 * 64;
}

// Grows to the largest tile a thread has met (bounded by the plan) and is freed with the thread.
struct Scratch {
  char* data = nullptr;
  size_t size = 0;
  char* at_least(size_t bytes) {
    if (bytes > size) {
      std::free(data);
      size = 0;
      data = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
      if (data != nullptr) size = bytes;
    }
    return data;
  }
  ~Scratch() { std::free(data); }
};
thread_local Scratch scratch;

const RotateKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return rotate_kernels_avx512;
    case Isa::avx2: return rotate_kernels_avx2;
#endif
    default: return rotate_kernels_baseline;
  }
}

void run(const RotateJob& job, RotateUnit unit, int threads) {
  const size_t bytes = scratch_bytes(job);
  const int64_t units = job.plan.units;
  const int64_t work = job.batch * job.plan.groups * job.height * job.width * job.plan.lanes;
  int64_t team = threads < units ? threads : units;
  if (work <= kSerialWork) team = 1;
  bool failed = false;
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    char* buffer = scratch.at_least(bytes);
    failed = buffer == nullptr;
    for (int64_t i = 0; i < units && !failed; ++i) unit(job, i, buffer);
  } else {
#pragma omp parallel num_threads(team) reduction(|| : failed)
    {
      char* buffer = scratch.at_least(bytes);
      failed = buffer == nullptr;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < units; ++i) {
        if (!failed) unit(job, i, buffer);
      }
    }
  }
  if (failed) throw std::bad_alloc();
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

bool empty(const RotateJob& job) {
  return job.batch == 0 || job.channels == 0 || job.height == 0 || job.width == 0;
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
