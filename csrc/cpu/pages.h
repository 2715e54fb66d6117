// Fresh memory of a large result: what the operating system is asked for.
#pragma once

#include <stdint.h>

namespace equikernels {

// Asks for large pages, where the system has them on request: the first write to each page is an interruption of the
// kernel that writes, and a large result in small pages spends more time in those than in its values. Only advice:
// where it is not taken nothing changes. Small memory is left alone.
void prefer_large_pages(void* data, int64_t bytes);

}  // namespace equikernels
