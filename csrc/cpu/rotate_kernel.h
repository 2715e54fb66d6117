// The three kernels, for either layout of scratch images. Included once by every unit of one
// instruction set; see storage.h.
#pragma once

#include "rotate_channels.h"
#include "rotate_geometry.h"
#include "rotate_plane.h"

namespace {

template <class V>
inline double sum_lanes(V v) {
  return (double(v[0]) + double(v[2])) + (double(v[1]) + double(v[3]));
}

// Consecutive pixels add to the same scratch pixels, and waiting for each other's stores would cost
// more than the arithmetic: blocks of four are taken from four places of a strip in turn.
inline int spread_block(int index, int blocks) {
  const int quarter = blocks / 4;
  if (index >= quarter * 4) return index;
  return index % 4 * quarter + index / 4;
}

template <class S, template <class> class Layout>
void apply_unit(const RotateJob& job, const Unit& unit, int64_t, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Box& tile = unit.tile;
  const Rotation<T> rotation(job, unit.sample);
  if (!rotation.defined) return fill_tile<S>(job, unit, __builtin_nanf(""));
  const Box box = rotation.reach(tile, 1);
  if (box.empty()) return fill_tile<S>(job, unit, 0);
  typename L::Scratch image(memory, box);
  L::copy_in(image, job.z, unit);
  const Locator<T> locator(rotation, job.order, box, image.pitch, sizeof(typename L::Pixel));
  const int64_t plane = job.height * job.width;
  S* out = plane_of<S>(job, unit);
  Strip<T> strip;
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    S* row = out + y * job.width;
    const int64_t last = tile.x + tile.width;
    int64_t begin = tile.x, end = last;
    visible(rotation, box, y, begin, end);
    fill_columns(row, plane, unit.live, tile.x, begin, 0);
    fill_columns(row, plane, unit.live, end, last, 0);
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      locator.template fill<true, false>(strip, y, x, count);
      for (int i = 0; i < count; i += 4) {
        L::store(row + x + i, plane, unit.live, count - i, L::gather(image, strip.offset, strip.tap, i));
      }
    }
  }
}

// Adds to the tile of the result all that the output pixels around it contribute; what falls beside
// the tile lands in the frame of its scratch image and belongs to another unit.
template <class S, template <class> class Layout, bool kAngle>
void adjoint_tile(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Rotation<T> rotation(job, unit.sample);
  if (!rotation.defined) {
    if (kAngle) job.partial[index] = __builtin_nan("");
    return fill_tile<S>(job, unit, __builtin_nanf(""));
  }
  typename L::Scratch sum(memory, unit.tile);
  sum.clear();
  typename L::Scratch image(sum.end(), unit.tile);
  if (kAngle) L::copy_in(image, job.z, unit);
  const Locator<T> locator(rotation, job.order, unit.tile, sum.pitch, sizeof(typename L::Pixel));
  const Box from = rotation.reach(unit.tile, -1);
  const int64_t* stride = job.grad.stride;
  const S* grad = image_of<S>(job.grad, unit.sample, unit.channel);
  Strip<T> strip;
  double angle = 0;
  for (int64_t y = from.y; y < from.y + from.height; ++y) {
    int64_t begin = from.x, end = from.x + from.width;
    visible(rotation, unit.tile, y, begin, end);
    typename L::Pixel row_angle{};
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      locator.template fill<true, kAngle>(strip, y, x, count);
      const S* row = grad + y * stride[2] + x * stride[3];
      const int blocks = (count + 3) / 4;
      for (int block = 0; block < blocks; ++block) {
        const int i = spread_block(block, blocks) * 4;
        const typename L::Block g = L::load(row + i * stride[3], stride, unit.live, count - i);
        L::scatter(sum, strip.offset, strip.tap, i, g);
        if (kAngle) row_angle += L::product(g, L::gather(image, strip.offset, strip.slope, i));
      }
    }
    if (kAngle) angle += sum_lanes(row_angle);
  }
  if (kAngle) job.partial[index] = angle;
  L::copy_out(sum, job, unit);
}

template <class S, template <class> class Layout>
void adjoint_unit(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  if (job.partial != nullptr) {
    adjoint_tile<S, Layout, true>(job, unit, index, memory);
  } else {
    adjoint_tile<S, Layout, false>(job, unit, index, memory);
  }
}

template <class S, template <class> class Layout>
void angle_unit(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Box& tile = unit.tile;
  const Rotation<T> rotation(job, unit.sample);
  job.partial[index] = rotation.defined ? 0.0 : __builtin_nan("");
  if (!rotation.defined) return;
  const Box box = rotation.reach(tile, 1);
  if (box.empty()) return;
  typename L::Scratch image(memory, box);
  L::copy_in(image, job.z, unit);
  const Locator<T> locator(rotation, job.order, box, image.pitch, sizeof(typename L::Pixel));
  const int64_t* stride = job.grad.stride;
  const S* grad = image_of<S>(job.grad, unit.sample, unit.channel);
  Strip<T> strip;
  double angle = 0;
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    int64_t begin = tile.x, end = tile.x + tile.width;
    visible(rotation, box, y, begin, end);
    typename L::Pixel row_angle{};
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      locator.template fill<false, true>(strip, y, x, count);
      const S* row = grad + y * stride[2] + x * stride[3];
      for (int i = 0; i < count; i += 4) {
        const typename L::Block g = L::load(row + i * stride[3], stride, unit.live, count - i);
        row_angle += L::product(g, L::gather(image, strip.offset, strip.slope, i));
      }
    }
    angle += sum_lanes(row_angle);
  }
  job.partial[index] = angle;
}

template <class S>
void apply_any(const RotateJob& job, int64_t index, char* memory) {
  const auto kernel = job.plan.lanes == 1 ? apply_unit<S, Plane> : apply_unit<S, Channels>;
  kernel(job, unit_at(job, index), index, memory);
}

template <class S>
void adjoint_any(const RotateJob& job, int64_t index, char* memory) {
  const auto kernel = job.plan.lanes == 1 ? adjoint_unit<S, Plane> : adjoint_unit<S, Channels>;
  kernel(job, unit_at(job, index), index, memory);
}

template <class S>
void angle_any(const RotateJob& job, int64_t index, char* memory) {
  const auto kernel = job.plan.lanes == 1 ? angle_unit<S, Plane> : angle_unit<S, Channels>;
  kernel(job, unit_at(job, index), index, memory);
}

// In the order of equikernels::Storage.
#define EQUIKERNELS_BY_STORAGE(kernel) \
  { kernel<float>, kernel<double>, kernel<Bf16>, kernel<Half> }
#define EQUIKERNELS_ROTATE_TABLE \
  { EQUIKERNELS_BY_STORAGE(apply_any), EQUIKERNELS_BY_STORAGE(adjoint_any), EQUIKERNELS_BY_STORAGE(angle_any) }

}  // namespace
