#include "orbit.h"

#include "isa.h"

namespace equikernels {
namespace {

const OrbitKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return orbit_kernels_avx512;
    case Isa::avx2: return orbit_kernels_avx2;
#endif
    default: return orbit_kernels_baseline;
  }
}

// Values below which a second thread costs more than it brings.
constexpr int64_t kSmall = 1 << 14;

int team(const OrbitJob& job, int threads) { return job.batch * job.rows * job.columns < kSmall ? 1 : threads; }

}  // namespace

void orbit_transform_rows(const OrbitJob& job, int threads) {
  const OrbitRows transform = kernels().rows[job.is_double];
  const int64_t rows = job.batch * job.rows;
  const int64_t pieces = rows < 64 ? rows : 64;
#pragma omp parallel for num_threads(team(job, threads)) schedule(static)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    transform(job, rows * piece / pieces, rows * (piece + 1) / pieces);
  }
}

void orbit_transform_columns(const OrbitJob& job, int threads) {
  const OrbitColumns transform = kernels().columns[job.is_double];
  for (int64_t f = 0; f < job.count; ++f) {
    const OrbitFamily& family = job.families[f];
    const int64_t units = job.batch * family.orbits;
#pragma omp parallel for num_threads(team(job, threads)) schedule(static)
    for (int64_t unit = 0; unit < units; ++unit) {
      const int64_t orbit = unit % family.orbits;
      transform(job, family, unit / family.orbits, orbit, orbit + 1);
    }
  }
}

}  // namespace equikernels
