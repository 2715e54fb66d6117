#include "rotate_plan.h"

#include <cmath>
#include <cstdlib>
#include <new>

namespace equikernels {
namespace {

// Images up to this size are one unit of work per sample and span of channels. Two interleaved planes
// of this size (input and gradient) still fit a second-level cache.
constexpr int64_t kWholeSide = 128;
constexpr int64_t kLargeTile = 64;
constexpr int64_t kSmallTile = 32;
// Fewer units than this, and the work is cut further so that several threads find some.
constexpr int64_t kEnoughUnits = 8;
// Values below which waking another thread costs more than it saves.
constexpr int64_t kSerialWork = 4096;
// The largest table of strips (see rotate_strips.h): reading more would cost what computing them does.
constexpr int64_t kTableBytes = 1 << 18;
// As in rotate_geometry.h: zero pixels around a scratch image on each side, and pixels of a strip.
constexpr int64_t kMargin = 2;
constexpr int64_t kStrip = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Extent {
  int64_t height, width;
};

// The bounding box of a turned tile, cut to the image.
Extent largest_box(const RotateJob& job) {
  const double diagonal = std::hypot(double(job.plan.tile_height), double(job.plan.tile_width));
  const int64_t reach = int64_t(diagonal) + 8;
  return {reach < job.height ? reach : job.height, reach < job.width ? reach : job.width};
}

size_t scalar_bytes(const RotateJob& job) { return job.storage == Storage::f64 ? sizeof(double) : sizeof(float); }

// Offset, four taps and four slopes of every pixel of every strip.
int64_t table_bytes(const RotateJob& job) {
  const Extent box = largest_box(job);
  return box.height * ceil_div(box.width, kStrip) * kStrip * int64_t(sizeof(uint32_t) + 8 * scalar_bytes(job));
}

}  // namespace

RotatePlan make_plan(const RotateJob& given) {
  RotateJob job = given;
  RotatePlan& plan = job.plan;
  plan.lanes = job.channels == 1 ? 1 : 4;
  const int64_t groups = ceil_div(job.channels, plan.lanes);
  const int64_t planes = job.batch * groups;
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
  const int64_t tiles = plan.tiles_y * plan.tiles_x;
  plan.spans = groups;
  if (table_bytes(job) <= kTableBytes) {
    const int64_t wanted = ceil_div(kEnoughUnits, job.batch * tiles);
    plan.spans = wanted < groups ? wanted : groups;
  }
  plan.groups_per_unit = ceil_div(groups, plan.spans);
  plan.spans = ceil_div(groups, plan.groups_per_unit);
  plan.units = job.batch * plan.spans * tiles;
  return plan;
}

// Two scratch images of four values a pixel and a flat one (see rotate_channels.h, rotate_plane.h), and
// the table of strips where groups share them.
size_t scratch_bytes(const RotateJob& job) {
  const Extent box = largest_box(job);
  const size_t flat = size_t(box.height + 2 * kMargin) * size_t(box.width + 2 * kMargin) * scalar_bytes(job);
  const size_t table = job.plan.groups_per_unit > 1 ? size_t(table_bytes(job)) : 0;
  return 9 * flat + 3 * 64 + table;
}

namespace {

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

}  // namespace

void run_units(const RotateJob& job, size_t bytes, int threads, void (*kernel)(const void*, int64_t, char*),
               const void* context) {
  const int64_t units = job.plan.units;
  int64_t team = threads < units ? threads : units;
  if (job.batch * job.channels * job.height * job.width <= kSerialWork) team = 1;
  bool failed = false;
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    char* buffer = scratch.at_least(bytes);
    failed = buffer == nullptr && bytes > 0;
    for (int64_t i = 0; i < units && !failed; ++i) kernel(context, i, buffer);
  } else {
#pragma omp parallel num_threads(team) reduction(|| : failed)
    {
      char* buffer = scratch.at_least(bytes);
      failed = buffer == nullptr && bytes > 0;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < units; ++i) {
        if (!failed) kernel(context, i, buffer);
      }
    }
  }
  if (failed) throw std::bad_alloc();
}

}  // namespace equikernels
