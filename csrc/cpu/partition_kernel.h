// The kernels of a partitioned rotation by storage, layout and losses. Included once by every unit of one
// instruction set; see storage.h.
#pragma once

#include "partition_backward.h"
#include "partition_forward.h"
#include "partition_split.h"

namespace {

#define EQUIKERNELS_PARTITION_ANY(name)                                                                      \
  template <class S, bool kLosses>                                                                           \
  void name##_any(const PartitionJob& job, int64_t index, char* memory) {                                    \
    const bool plane = job.images.plan.lanes == 1;                                                           \
    const auto kernel = plane ? name##_unit<S, Plane, kLosses> : name##_unit<S, Channels, kLosses>;          \
    kernel(job, unit_at(job.images, index), index, memory);                                                  \
  }
EQUIKERNELS_PARTITION_ANY(partition_forward)
EQUIKERNELS_PARTITION_ANY(partition_backward)
EQUIKERNELS_PARTITION_ANY(partition_adjoint)

// In the order of equikernels::Storage.
#define EQUIKERNELS_PARTITION_ROW(name, S) { name##_any<S, false>, name##_any<S, true> }
#define EQUIKERNELS_PARTITION_ROWS(name)                                                                     \
  { EQUIKERNELS_PARTITION_ROW(name, float), EQUIKERNELS_PARTITION_ROW(name, double),                         \
    EQUIKERNELS_PARTITION_ROW(name, Bf16), EQUIKERNELS_PARTITION_ROW(name, Half) }
#define EQUIKERNELS_PARTITION_TABLE                                                                          \
  { EQUIKERNELS_PARTITION_ROWS(partition_forward), EQUIKERNELS_PARTITION_ROWS(partition_backward),           \
    EQUIKERNELS_PARTITION_ROWS(partition_adjoint), EQUIKERNELS_BY_STORAGE(split_unit),                       \
    EQUIKERNELS_BY_STORAGE(split_backward_unit) }

}  // namespace
