// Channels turned and copied, and the losses, in one pass over the output.
#pragma once

#include "partition_groups.h"
#include "partition_rows.h"
#include "rotate_kernel.h"

namespace {

// The pixels of the image that a tile reads; where it reads none, one that then has no weight, because scratch
// images hold at least one.
template <class T>
inline Box box_of(const Rotation<T>& rotation, const Box& tile) {
  const Box box = rotation.reach(tile, 1);
  return box.empty() ? Box{0, 0, 1, 1} : box;
}

// As apply_group, on every pixel; returns the sum of (y - target)^2.
template <class S, class L>
__attribute__((noinline)) double compare_group(const Box& tile, const typename L::Scratch& image, Strips<typename L::T>& strips,
                            const Planes<const S>& target, const Planes<S>& out) {
  strips.begin_group();
  Vector<double> sum{};
  for (int64_t y = tile.y; y < tile.y + tile.height; ++y) {
    const int64_t end = tile.x + tile.width;
    for (int64_t x = tile.x; x < end; x += kStrip) {
      const int count = int(smaller(kStrip, end - x));
      const auto& strip = strips.template next<true, false>(y, x, count);
      const int64_t to = y * out.row + x, from = y * target.row + x * target.column;
      for (int block = 0; block * 4 < count; ++block) {
        const Piece piece = piece_of(block, count);
        const int i = piece.at;
        const typename L::Block turned = L::gather(image, strip.offset, strip.tap, i);
        L::store(out, to + i, count - i, turned);
        typename L::Block difference = turned - L::load(target, from + i * target.column, count - i);
        if (!piece.own()) difference = L::keep(difference, piece.begin, piece.end);
        sum += widened(L::product(difference, difference));
      }
    }
  }
  return sum_lanes(sum);
}

template <class S, template <class> class Layout, bool kLosses>
void partition_forward_unit(const PartitionJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const RotateJob& images = job.images;
  const Rotation<T> rotation(images, unit.sample);
  const double nan = __builtin_nan("");
  double loss_i = 0, loss_v = 0;
  for_groups<T>(job, unit, Kind::copied, [&](const Group& group) {
    const Planes<const S> z = planes_of<S>(images.z, unit.sample, group);
    copy_tile(z, planes_to<S>(images, images.out, unit.sample, group), unit.tile);
    if (kLosses) loss_i += squared_distance(z, planes_of<S>(job.target, unit.sample, group), unit.tile);
  });
  for_groups<T>(job, unit, Kind::undefined, [&](const Group& group) {
    fill_tile(planes_to<S>(images, images.out, unit.sample, group), unit.tile, __builtin_nanf(""));
    loss_i = loss_v = nan;
  });
  if (rotation.defined) {
    const Box box = box_of(rotation, unit.tile);
    typename L::Scratch image(memory, box);
    const Locator<T> locator(rotation, images.order, box, image.pitch, sizeof(typename L::Pixel));
    Strips<T> strips(locator, strip_table<T>(images, image.end()));
    bool first = true;
    for_groups<T>(job, unit, Kind::turned, [&](const Group& group) {
      const Planes<S> out = planes_to<S>(images, images.out, unit.sample, group);
      L::copy_in(image, planes_of<S>(images.z, unit.sample, group), first);
      first = false;
      if (kLosses) {
        const Planes<const S> target = planes_of<S>(job.target, unit.sample, group);
        loss_v += compare_group<S, L>(unit.tile, image, strips, target, out);
      } else {
        apply_group<S, L>(rotation, unit.tile, image, strips, out);
      }
    });
  } else {
    for_groups<T>(job, unit, Kind::turned, [&](const Group& group) {
      fill_tile(planes_to<S>(images, images.out, unit.sample, group), unit.tile, __builtin_nanf(""));
      loss_v = nan;
    });
  }
  if (kLosses) {
    job.losses[2 * index] = loss_i;
    job.losses[2 * index + 1] = loss_v;
  }
}

}  // namespace
