#include "partition.h"

#include <memory>
#include <vector>

#include "isa.h"
#include "rotate_plan.h"

namespace equikernels {
namespace {

const PartitionKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return partition_kernels_avx512;
    case Isa::avx2: return partition_kernels_avx2;
#endif
    default: return partition_kernels_baseline;
  }
}

template <class Job, class Unit>
struct Call {
  const Job& job;
  Unit unit;
};

template <class Job, class Unit>
void run(const Job& job, Unit unit, size_t scratch, int threads) {
  const Call<Job, Unit> call{job, unit};
  const auto one = [](const void* context, int64_t index, char* memory) {
    const auto& c = *static_cast<const Call<Job, Unit>*>(context);
    c.unit(c.job, index, memory);
  };
  run_units(job.images, scratch, threads, one, &call);
}

// to[i] = sum of values[(i * count + j) * step], j < count.
void add_up(const RotateJob& images, void* to, int64_t results, const double* values, int64_t count, int64_t step) {
  for (int64_t i = 0; i < results; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += values[(i * count + j) * step];
    if (images.storage == Storage::f64) {
      static_cast<double*>(to)[i] = sum;
    } else {
      static_cast<float*>(to)[i] = float(sum);
    }
  }
}

// Pieces of about this many values: a part of a plane, or several planes.
constexpr int64_t kPiece = 1 << 15;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

RotatePlan plan_of_pieces(const RotateJob& job) {
  RotatePlan plan{};
  plan.lanes = 1;
  plan.tile_width = smaller(job.width, kPiece);
  plan.tile_height = smaller(job.height, ceil_div(kPiece, plan.tile_width));
  plan.tiles_y = ceil_div(job.height, plan.tile_height);
  plan.tiles_x = ceil_div(job.width, plan.tile_width);
  plan.groups_per_unit = smaller(job.channels, ceil_div(kPiece, plan.tile_height * plan.tile_width));
  plan.spans = ceil_div(job.channels, plan.groups_per_unit);
  plan.units = job.batch * plan.spans * plan.tiles_y * plan.tiles_x;
  return plan;
}

}  // namespace

void split(SplitJob job, int threads) {
  if (empty(job.images)) return;
  job.images.plan = plan_of_pieces(job.images);
  run(job, kernels().split[int(job.images.storage)], 0, threads);
}

void split_backward(SplitJob job, void* mask_grad, int threads) {
  RotateJob& images = job.images;
  if (empty(images)) return;
  images.plan = plan_of_pieces(images);
  const int64_t tiles = images.plan.tiles_y * images.plan.tiles_x;
  const int64_t masks = images.batch * images.channels;
  std::vector<double> sums(mask_grad != nullptr ? size_t(masks * tiles) : 0);
  job.mask_partial = mask_grad != nullptr ? sums.data() : nullptr;
  run(job, kernels().split_backward[int(images.storage)], 0, threads);
  if (mask_grad != nullptr) add_up(images, mask_grad, masks, sums.data(), tiles, 1);
}

void partition_forward(PartitionJob job, void* loss_i, void* loss_v, int threads) {
  RotateJob& images = job.images;
  if (empty(images)) return;
  images.plan = make_plan(images);
  const bool with_losses = job.target.data != nullptr;
  std::vector<double> losses(with_losses ? size_t(2 * images.plan.units) : 0);
  job.losses = losses.data();
  run(job, kernels().forward[int(images.storage)][with_losses], scratch_bytes(images), threads);
  if (!with_losses) return;
  const int64_t each = images.plan.units / images.batch;
  add_up(images, loss_i, images.batch, losses.data(), each, 2);
  add_up(images, loss_v, images.batch, losses.data() + 1, each, 2);
}

void partition_backward(PartitionJob job, void* theta_grad, void* mask_grad, int threads) {
  RotateJob& images = job.images;
  if (empty(images)) return;
  images.plan = make_plan(images);
  const int storage = int(images.storage);
  const bool with_losses = job.target.data != nullptr;
  const int64_t tiles = images.plan.tiles_y * images.plan.tiles_x;
  const int64_t each = images.plan.units / images.batch;
  const int64_t masks = images.batch * images.channels;
  std::vector<double> angles(theta_grad != nullptr ? size_t(images.plan.units) : 0);
  std::vector<double> mask_sums(mask_grad != nullptr ? size_t(masks * tiles) : 0);
  images.partial = theta_grad != nullptr ? angles.data() : nullptr;
  job.mask_partial = mask_grad != nullptr ? mask_sums.data() : nullptr;
  // An output pixel adds to several tiles of the gradient to z, and the losses make what it adds depend on the
  // turned image. So with several tiles one pass over the output stores that, and a second one collects it.
  std::unique_ptr<char[]> upstream;
  if (tiles > 1 && with_losses && images.out != nullptr) {
    const size_t scalar = images.storage == Storage::f64 ? sizeof(double) : sizeof(float);
    upstream.reset(new char[size_t(masks) * size_t(images.height * images.width) * scalar]);
    job.upstream = upstream.get();
  }
  const size_t scratch = scratch_bytes(images);
  const bool sums = theta_grad != nullptr || mask_grad != nullptr;
  const bool first = sums || (with_losses && images.out != nullptr);
  if (first) run(job, kernels().backward[storage][with_losses], scratch, threads);
  if (images.out != nullptr && (tiles > 1 || !first)) {
    run(job, kernels().adjoint[storage][with_losses], scratch, threads);
  }
  if (theta_grad != nullptr) add_up(images, theta_grad, images.batch, angles.data(), each, 1);
  if (mask_grad != nullptr) add_up(images, mask_grad, masks, mask_sums.data(), tiles, 1);
}

}  // namespace equikernels
