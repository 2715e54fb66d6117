// The three kernels, for either layout of scratch images. Included once by every unit of one
// instruction set; see storage.h.
#pragma once

#include "rotate_channels.h"
#include "rotate_geometry.h"
#include "rotate_plane.h"
#include "rotate_strips.h"

namespace {

// Where the strips of a unit are kept; null where it has one group only.
template <class T>
inline Strip<T>* strip_table(const RotateJob& job, char* memory) {
  return job.plan.groups_per_unit > 1 ? reinterpret_cast<Strip<T>*>(memory) : nullptr;
}

// All channels of the unit's tile.
template <class S>
inline void fill_unit(const RotateJob& job, const Unit& unit, float value) {
  for (int64_t channel = unit.channel; channel < unit.channel + unit.channels; channel += job.plan.lanes) {
    const Group group = group_from(unit, channel, job.plan.lanes);
    fill_tile(planes_to<S>(job, job.out, unit.sample, group), unit.tile, value);
  }
}

// One group of channels of out = A_k z, on a tile.
template <class S, class L>
__attribute__((noinline)) void apply_group(const Rotation<typename L::T>& rotation, const Box& tile,
                                           const typename L::Scratch image, Strips<typename L::T>& strips,
                                           const Planes<S> out) {
  strips.begin_group();
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    const int64_t last = tile.x + tile.width;
    int64_t begin = tile.x, end = last;
    visible(rotation, image.box, y, begin, end);
    if (begin > tile.x) fill_columns(out, y, tile.x, begin, 0);
    if (end < last) fill_columns(out, y, end, last, 0);
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      const auto& strip = strips.template next<true, false>(y, x, count);
      const int64_t start = y * out.row + x;
      for (int block = 0; block * 4 < count; ++block) {
        const int i = piece_of(block, count).at;
        L::store(out, start + i, count - i, L::gather(image, strip.offset, strip.tap, i));
      }
    }
  }
}

template <class S, template <class> class Layout>
void apply_unit(const RotateJob& job, const Unit& unit, int64_t, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Rotation<T> rotation(job, unit.sample);
  if (!rotation.defined) return fill_unit<S>(job, unit, __builtin_nanf(""));
  const Box box = rotation.reach(unit.tile, 1);
  if (box.empty()) return fill_unit<S>(job, unit, 0);
  typename L::Scratch image(memory, box);
  const Locator<T> locator(rotation, job.order, box, image.pitch, sizeof(typename L::Pixel));
  Strips<T> strips(locator, strip_table<T>(job, image.end()));
  const int64_t lanes = job.plan.lanes, end = unit.channel + unit.channels;
  for (int64_t channel = unit.channel; channel < end; channel += lanes) {
    const Group group = group_from(unit, channel, lanes);
    L::copy_in(image, planes_of<S>(job.z, unit.sample, group), channel == unit.channel);
    apply_group<S, L>(rotation, unit.tile, image, strips, planes_to<S>(job, job.out, unit.sample, group));
  }
}

// Adds to the scratch image of the tile all that the output pixels around it contribute; what falls beside the
// tile lands in the frame and belongs to another unit. With kAngle returns <grad, A_{k+1} z>.
template <class L, bool kAngle, class G>
__attribute__((noinline)) double adjoint_group(const Rotation<typename L::T>& rotation, const Box& from,
                                               const Planes<const G> grad, const typename L::Scratch image,
                                               Strips<typename L::T>& strips, typename L::Scratch sum) {
  sum.clear();
  strips.begin_group();
  double angle = 0;
  for (int64_t y = from.y; y < from.y + from.height; ++y) {
    int64_t begin = from.x, end = from.x + from.width;
    visible(rotation, sum.box, y, begin, end);
    typename L::Pixel row_angle{};
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      const auto& strip = strips.template next<true, kAngle>(y, x, count);
      const int64_t start = y * grad.row + x * grad.column;
      const int blocks = (count + 3) / 4;
      for (int block = 0; block < blocks; ++block) {
        const Piece piece = piece_of(spread_block(block, blocks), count);
        const int i = piece.at;
        typename L::Block g = L::load(grad, start + i * grad.column, count - i);
        if (!piece.own()) g = L::keep(g, piece.begin, piece.end);
        L::scatter(sum, strip.offset, strip.tap, i, g);
        if (kAngle) row_angle += L::product(g, L::gather(image, strip.offset, strip.slope, i));
      }
    }
    if (kAngle) angle += sum_lanes(row_angle);
  }
  return angle;
}

template <class S, template <class> class Layout, bool kAngle>
void adjoint_tile(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Rotation<T> rotation(job, unit.sample);
  if (!rotation.defined) {
    if (kAngle) job.partial[index] = __builtin_nan("");
    return fill_unit<S>(job, unit, __builtin_nanf(""));
  }
  typename L::Scratch sum(memory, unit.tile);
  typename L::Scratch image(sum.end(), unit.tile);
  const Locator<T> locator(rotation, job.order, unit.tile, sum.pitch, sizeof(typename L::Pixel));
  Strips<T> strips(locator, strip_table<T>(job, image.end()));
  const Box from = rotation.reach(unit.tile, -1);
  const int64_t lanes = job.plan.lanes, end = unit.channel + unit.channels;
  double angle = 0;
  for (int64_t channel = unit.channel; channel < end; channel += lanes) {
    const Group group = group_from(unit, channel, lanes);
    if (kAngle) L::copy_in(image, planes_of<S>(job.z, unit.sample, group), channel == unit.channel);
    const Planes<const S> grad = planes_of<S>(job.grad, unit.sample, group);
    angle += adjoint_group<L, kAngle>(rotation, from, grad, image, strips, sum);
    L::copy_out(sum, planes_to<S>(job, job.out, unit.sample, group));
  }
  if (kAngle) job.partial[index] = angle;
}

template <class S, template <class> class Layout>
void adjoint_unit(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  if (job.partial != nullptr) {
    adjoint_tile<S, Layout, true>(job, unit, index, memory);
  } else {
    adjoint_tile<S, Layout, false>(job, unit, index, memory);
  }
}

// One group of <grad, A_{k+1} z>.
template <class S, class L>
__attribute__((noinline)) double angle_group(const Rotation<typename L::T>& rotation, const Box& tile,
                                             const Planes<const S> grad, const typename L::Scratch image,
                                             Strips<typename L::T>& strips) {
  strips.begin_group();
  double angle = 0;
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    int64_t begin = tile.x, end = tile.x + tile.width;
    visible(rotation, image.box, y, begin, end);
    typename L::Pixel row_angle{};
    for (int64_t x = begin; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      const auto& strip = strips.template next<false, true>(y, x, count);
      const int64_t start = y * grad.row + x * grad.column;
      for (int block = 0; block * 4 < count; ++block) {
        const Piece piece = piece_of(block, count);
        const int i = piece.at;
        typename L::Block g = L::load(grad, start + i * grad.column, count - i);
        if (!piece.own()) g = L::keep(g, piece.begin, piece.end);
        row_angle += L::product(g, L::gather(image, strip.offset, strip.slope, i));
      }
    }
    angle += sum_lanes(row_angle);
  }
  return angle;
}

template <class S, template <class> class Layout>
void angle_unit(const RotateJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const Rotation<T> rotation(job, unit.sample);
  job.partial[index] = rotation.defined ? 0.0 : __builtin_nan("");
  if (!rotation.defined) return;
  const Box box = rotation.reach(unit.tile, 1);
  if (box.empty()) return;
  typename L::Scratch image(memory, box);
  const Locator<T> locator(rotation, job.order, box, image.pitch, sizeof(typename L::Pixel));
  Strips<T> strips(locator, strip_table<T>(job, image.end()));
  const int64_t lanes = job.plan.lanes, end = unit.channel + unit.channels;
  double angle = 0;
  for (int64_t channel = unit.channel; channel < end; channel += lanes) {
    const Group group = group_from(unit, channel, lanes);
    L::copy_in(image, planes_of<S>(job.z, unit.sample, group), channel == unit.channel);
    angle += angle_group<S, L>(rotation, unit.tile, planes_of<S>(job.grad, unit.sample, group), image, strips);
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
