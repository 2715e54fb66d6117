#include "pages.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace equikernels {

// Below, allocators hand out memory that was written to before.
constexpr int64_t kLargeBytes = int64_t(1) << 22;
constexpr uintptr_t kPage = uintptr_t(1) << 12;

void prefer_large_pages(void* data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  if (bytes < kLargeBytes) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + uintptr_t(bytes)) / kPage * kPage;
  // Refused by systems without large pages, which is no error.
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace equikernels
