// Which channels of a unit are turned, copied or undefined, in groups as full as they can be.
#pragma once

#include "partition.h"
#include "rotate_scratch.h"

namespace {

using equikernels::Numbers;
using equikernels::PartitionJob;

enum class Kind { turned, copied, undefined };

template <class T>
inline T number_at(const Numbers& numbers, int64_t sample, int64_t channel) {
  return static_cast<const T*>(numbers.data)[sample * numbers.stride[0] + channel * numbers.stride[1]];
}

template <class T>
inline Kind kind_of(const Numbers& mask, int64_t sample, int64_t channel) {
  const T m = number_at<T>(mask, sample, channel);
  if (__builtin_isnan(m)) return Kind::undefined;
  return m != 0 ? Kind::turned : Kind::copied;
}

// Calls visit(group) for the channels of one kind.
template <class T, class Visit>
inline void for_groups(const PartitionJob& job, const Unit& unit, Kind kind, const Visit& visit) {
  Group group{};
  for (int64_t channel = unit.channel; channel < unit.channel + unit.channels; ++channel) {
    if (kind_of<T>(job.mask, unit.sample, channel) != kind) continue;
    group.channel[group.live++] = channel;
    if (group.live < job.images.plan.lanes) continue;
    visit(group);
    group.live = 0;
  }
  if (group.live > 0) visit(group);
}

// Where a unit leaves its part of the gradient to the mask of a channel.
template <class Job>
inline double& mask_partial_at(const Job& job, const Unit& unit, int64_t index, int64_t channel) {
  const auto& plan = job.images.plan;
  const int64_t tiles = plan.tiles_y * plan.tiles_x;
  return job.mask_partial[(unit.sample * job.images.channels + channel) * tiles + index % tiles];
}

}  // namespace
