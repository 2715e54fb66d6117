// Channels of one tensor sorted into two, and the way back.
#pragma once

#include "partition_groups.h"
#include "partition_rows.h"

namespace {

using equikernels::SplitJob;

template <class T>
inline Kind side_of(const SplitJob& job, int64_t sample, int64_t channel) {
  const T soft = number_at<T>(job.soft, sample, channel);
  if (__builtin_isnan(soft)) return Kind::undefined;
  return soft > T(job.threshold) ? Kind::turned : Kind::copied;
}

// A tile of small channels that lies in one piece in the input: nothing is set up for a channel but two addresses, and
// neighbours that go the same way are moved at once where they touch.
template <class S>
inline void split_pieces(const SplitJob& job, const Unit& unit) {
  const RotateJob& images = job.images;
  const int64_t plane = images.height * images.width, start = unit.tile.y * images.width;
  const size_t bytes = size_t(unit.tile.height * images.width) * sizeof(S);
  const S* from = static_cast<const S*>(images.z.data) + unit.sample * images.z.stride[0] + start;
  const int64_t first = (unit.sample * images.channels) * plane + start, end = unit.channel + unit.channels;
  const bool touching = images.z.stride[1] == plane && unit.tile.height == images.height;
  for (int64_t channel = unit.channel, next; channel < end; channel = next) {
    const Kind side = side_of<Compute<S>>(job, unit.sample, channel);
    next = channel + 1;
    while (touching && next < end && side_of<Compute<S>>(job, unit.sample, next) == side) ++next;
    S* varying = static_cast<S*>(images.out) + first + channel * plane;
    S* invariant = static_cast<S*>(job.other) + first + channel * plane;
    const bool varies = side == Kind::turned;
    memcpy(varies ? varying : invariant, from + channel * images.z.stride[1], size_t(next - channel) * bytes);
    memset(varies ? invariant : varying, 0, size_t(next - channel) * bytes);
  }
}

template <class S>
void split_unit(const SplitJob& job, int64_t index, char*) {
  const RotateJob& images = job.images;
  const Unit unit = unit_at(images, index);
  bool in_one_piece = images.z.stride[3] == 1 && unit.tile.width == images.width;
  in_one_piece = in_one_piece && (unit.tile.height == 1 || images.z.stride[2] == images.width);
  for (int64_t channel = unit.channel; channel < unit.channel + unit.channels && in_one_piece; ++channel) {
    in_one_piece = side_of<Compute<S>>(job, unit.sample, channel) != Kind::undefined;
  }
  if (in_one_piece) return split_pieces<S>(job, unit);
  for (int64_t channel = unit.channel; channel < unit.channel + unit.channels; ++channel) {
    const Group group{1, {channel}};
    const Kind kind = side_of<Compute<S>>(job, unit.sample, channel);
    const Planes<S> varying = planes_to<S>(images, images.out, unit.sample, group);
    const Planes<S> invariant = planes_to<S>(images, job.other, unit.sample, group);
    if (kind == Kind::undefined) {
      fill_tile(varying, unit.tile, __builtin_nanf(""));
      fill_tile(invariant, unit.tile, __builtin_nanf(""));
      continue;
    }
    const bool varies = kind == Kind::turned;
    copy_tile(planes_of<S>(images.z, unit.sample, group), varies ? varying : invariant, unit.tile);
    fill_tile(varies ? invariant : varying, unit.tile, 0);
  }
}

template <class S>
void split_backward_unit(const SplitJob& job, int64_t index, char*) {
  const RotateJob& images = job.images;
  const Unit unit = unit_at(images, index);
  for (int64_t channel = unit.channel; channel < unit.channel + unit.channels; ++channel) {
    const Group group{1, {channel}};
    const Kind kind = side_of<Compute<S>>(job, unit.sample, channel);
    const Planes<const S> grad_v = planes_of<S>(job.grad_v, unit.sample, group);
    const Planes<const S> grad_i = planes_of<S>(job.grad_i, unit.sample, group);
    if (images.out != nullptr) {
      const Planes<S> out = planes_to<S>(images, images.out, unit.sample, group);
      if (kind == Kind::undefined) {
        fill_tile(out, unit.tile, __builtin_nanf(""));
      } else {
        copy_tile(kind == Kind::turned ? grad_v : grad_i, out, unit.tile);
      }
    }
    if (job.mask_partial == nullptr) continue;
    const Planes<const S> z = planes_of<S>(images.z, unit.sample, group);
    mask_partial_at(job, unit, index, channel) = weighted_difference(grad_v, grad_i, z, unit.tile);
  }
}

}  // namespace
