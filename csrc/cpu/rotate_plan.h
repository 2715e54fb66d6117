// How a batch of images is cut into units of work, and how the units are run.
#pragma once

#include <stddef.h>

#include "rotate.h"

namespace equikernels {

RotatePlan make_plan(const RotateJob& job);

// What the kernels need for one unit of the job's plan.
size_t scratch_bytes(const RotateJob& job);

// Calls kernel(context, unit, scratch) for every unit of the job's plan, on up to that many threads.
void run_units(const RotateJob& job, size_t scratch, int threads,
               void (*kernel)(const void* context, int64_t unit, char* scratch), const void* context);

inline bool empty(const RotateJob& job) {
  return job.batch == 0 || job.channels == 0 || job.height == 0 || job.width == 0;
}

}  // namespace equikernels
