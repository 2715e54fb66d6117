#include "average.h"

#include <omp.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "isa.h"

namespace equikernels {
namespace {

// Columns of a tile, about: rows that stay in the first cache, long enough to hide what a row costs.
constexpr int64_t kTileColumns = 256;
// Values of a unit of work, about; below the second, waking another thread costs more than it saves.
constexpr int64_t kUnitValues = 1 << 15;
constexpr int64_t kSerialValues = 1 << 14;
// Values a scratch row is a multiple of: two of the widest vectors.
constexpr int64_t kPad = 32;
constexpr int64_t kRowsAtOnce = 4;
// Elements that channels of one tile may lie apart.
constexpr int64_t kFarthest = int64_t(1) << 30;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }
size_t scalar_bytes(Storage storage) { return storage == Storage::f64 ? sizeof(double) : sizeof(float); }

const AverageKernels& kernels() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return average_kernels_avx512;
    case Isa::avx2: return average_kernels_avx2;
#endif
    default: return average_kernels_baseline;
  }
}

int64_t values_of(const AverageShape& shape) {
  int64_t values = shape.m * shape.n * shape.channels;
  for (int64_t d = 0; d < shape.outer_dims; ++d) values *= shape.outer_size[d];
  return values;
}

int32_t narrow(int64_t offset) {
  if (offset != int32_t(offset)) throw std::invalid_argument("w: columns of a block lie more than 2^31 elements apart");
  return int32_t(offset);
}

// Offsets of a tile's columns for every element, and which of them are 0, 1, 2, ...
struct Columns {
  std::vector<int32_t> offset;
  std::unique_ptr<bool[]> is_straight;
  int64_t period = 0;
  ColumnMap map() const { return {offset.data(), is_straight.get(), period}; }
};

// Element b takes column j of channel t from t * channel + column * source(b)[j].
template <class Source>
Columns columns_of(const AveragePlan& plan, int64_t channel, int64_t column, Source source) {
  const AverageShape& shape = plan.shape;
  Columns columns;
  columns.offset.resize(size_t(shape.order * plan.length));
  if (column == 1 && (channel == shape.n || plan.tile == 1)) columns.period = shape.n;
  columns.is_straight.reset(new bool[size_t(shape.order)]);
  for (int64_t b = 0; b < shape.order; ++b) {
    const int64_t* const from = source(b);
    int32_t* offset = columns.offset.data() + b * plan.length;
    bool straight = true;
    for (int64_t t = 0; t < plan.tile; ++t) {
      for (int64_t j = 0; j < shape.n; ++j) {
        const int64_t at = t * shape.n + j;
        offset[at] = narrow(t * channel + from[j] * column);
        straight = straight && offset[at] == at;
      }
    }
    columns.is_straight[size_t(b)] = straight;
  }
  return columns;
}

// Row orbits: base rows moved by every element, and one element for every row of an orbit.
struct Orbits {
  std::vector<int64_t> moved, first{0}, representative;
};

Orbits orbits_of(const AverageShape& shape) {
  Orbits orbits;
  std::vector<bool> seen(size_t(shape.m));
  for (int64_t row = 0; row < shape.m; ++row) {
    if (seen[size_t(row)]) continue;
    for (int64_t b = 0; b < shape.order; ++b) {
      const int64_t inverse = shape.table[b];
      const int64_t moved = shape.sources_out[inverse * shape.m + row];
      orbits.moved.push_back(moved);
      if (!seen[size_t(moved)]) orbits.representative.push_back(b);
      seen[size_t(moved)] = true;
    }
    orbits.first.push_back(int64_t(orbits.representative.size()));
  }
  return orbits;
}

// Everything that does not depend on data. Offsets within a tile must fit their integers.
AveragePlan plan_of(const AverageShape& shape, const Orbits& orbits, const BlockLayout& a, const BlockLayout& b) {
  AveragePlan plan{};
  plan.shape = shape;
  plan.tile = smaller(larger(kTileColumns / shape.n, 1), shape.channels);
  const int64_t step = larger(std::llabs(a.channel), std::llabs(b.channel));
  if (step > kFarthest / kTileColumns) plan.tile = 1;
  plan.length = plan.tile * shape.n;
  plan.pitch = ceil_div(plan.length, kPad) * kPad;
  plan.orbits = int64_t(orbits.first.size()) - 1;
  plan.moved = orbits.moved.data();
  plan.first = orbits.first.data();
  plan.representative = orbits.representative.data();
  const int64_t tiles = ceil_div(shape.channels, plan.tile);
  const int64_t rows = ceil_div(shape.m, plan.orbits);
  plan.tiles_per_unit = smaller(larger(kUnitValues / (rows * plan.length), 1), tiles);
  plan.tile_parts = ceil_div(tiles, plan.tiles_per_unit);
  plan.orbits_per_unit = plan.tile_parts > 1 ? 1 : smaller(larger(kUnitValues / (rows * plan.length * tiles), 1), plan.orbits);
  plan.orbit_parts = ceil_div(plan.orbits, plan.orbits_per_unit);
  plan.units = plan.orbit_parts * plan.tile_parts;
  for (int64_t d = 0; d < shape.outer_dims; ++d) plan.units *= shape.outer_size[d];
  return plan;
}

void run(const AveragePlan& plan, AverageUnit kernel, size_t bytes, int threads) {
  int64_t team = threads < plan.units ? threads : plan.units;
  if (values_of(plan.shape) <= kSerialValues) team = 1;
  bytes = (bytes + 63) / 64 * 64;
  const std::unique_ptr<char, decltype(&std::free)> memory(
      static_cast<char*>(std::aligned_alloc(64, bytes * size_t(larger(team, 1)))), &std::free);
  if (!memory) throw std::bad_alloc();
  char* const scratch = memory.get();
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    for (int64_t unit = 0; unit < plan.units; ++unit) kernel(plan, unit, scratch);
    return;
  }
#pragma omp parallel num_threads(team)
  {
    char* const own = scratch + size_t(omp_get_thread_num()) * bytes;
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < plan.units; ++unit) kernel(plan, unit, own);
  }
}

// weights[a b^-1] of every sample as (order, order).
template <class T>
std::vector<char> mixing_of(const AverageShape& shape, const void* weights) {
  const int64_t square = shape.order * shape.order;
  std::vector<char> bytes(size_t(shape.outer_size[0] * square) * sizeof(T));
  T* const mixing = reinterpret_cast<T*>(bytes.data());
  for (int64_t sample = 0; sample < shape.outer_size[0]; ++sample) {
    const T* const own = static_cast<const T*>(weights) + sample * shape.order;
    for (int64_t i = 0; i < square; ++i) mixing[sample * square + i] = own[shape.table[i]];
  }
  return bytes;
}

}  // namespace

void group_average(const AverageShape& shape, const void* w, const BlockLayout& w_layout, const void* weights,
                   void* out, const BlockLayout& out_layout, int threads) {
  if (values_of(shape) == 0) return;
  const Orbits orbits = orbits_of(shape);
  AveragePlan plan = plan_of(shape, orbits, w_layout, out_layout);
  const auto inverse_source = [&](int64_t b) { return shape.sources_in + shape.table[b] * shape.n; };
  const auto source = [&](int64_t a) { return shape.sources_in + a * shape.n; };
  const Columns taken = columns_of(plan, w_layout.channel, w_layout.column, inverse_source);
  const Columns given = columns_of(plan, shape.n, 1, source);
  // Where column j of channel t of a tile goes.
  std::vector<int32_t> place(static_cast<size_t>(plan.length));
  bool contiguous = true;
  for (int64_t at = 0; at < plan.length; ++at) {
    place[size_t(at)] = narrow(at / shape.n * out_layout.channel + at % shape.n * out_layout.column);
    contiguous = contiguous && place[size_t(at)] == at;
  }
  const bool doubles = shape.storage == Storage::f64;
  const std::vector<char> mixing = doubles ? mixing_of<double>(shape, weights) : mixing_of<float>(shape, weights);
  plan.w = w;
  plan.w_layout = w_layout;
  plan.w_columns = taken.map();
  plan.out = out;
  plan.out_layout = out_layout;
  plan.out_columns = given.map();
  plan.place = contiguous ? nullptr : place.data();
  plan.mixing = mixing.data();
  const size_t rows = size_t((shape.order + kRowsAtOnce) * plan.pitch) * scalar_bytes(shape.storage);
  run(plan, kernels().average[int(shape.storage)], rows + size_t(shape.order) * 16, threads);
}

void group_correlate(const AverageShape& shape, const void* g, const BlockLayout& g_layout, const void* w,
                     const BlockLayout& w_layout, void* result, int threads) {
  const int64_t samples = shape.outer_size[0];
  std::vector<double> sums;
  int64_t each = 0;
  if (values_of(shape) != 0) {
    const Orbits orbits = orbits_of(shape);
    AveragePlan plan = plan_of(shape, orbits, w_layout, g_layout);
    const auto inverse_source = [&](int64_t b) { return shape.sources_in + shape.table[b] * shape.n; };
    const Columns w_columns = columns_of(plan, w_layout.channel, w_layout.column, inverse_source);
    const Columns g_columns = columns_of(plan, g_layout.channel, g_layout.column, inverse_source);
    plan.w = w;
    plan.w_layout = w_layout;
    plan.w_columns = w_columns.map();
    plan.out = const_cast<void*>(g);
    plan.out_layout = g_layout;
    plan.out_columns = g_columns.map();
    sums.resize(size_t(plan.units * shape.order));
    plan.sums = sums.data();
    each = plan.units / samples;
    const size_t bytes = size_t((shape.order + 1) * plan.pitch) * sizeof(double);
    run(plan, kernels().correlate[int(shape.storage)], bytes, threads);
  }
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (int64_t a = 0; a < shape.order; ++a) {
      double sum = 0;
      for (int64_t unit = 0; unit < each; ++unit) sum += sums[size_t((sample * each + unit) * shape.order + a)];
      const int64_t at = sample * shape.order + a;
      if (shape.storage == Storage::f64) {
        static_cast<double*>(result)[at] = sum;
      } else {
        static_cast<float*>(result)[at] = float(sum);
      }
    }
  }
}

}  // namespace equikernels
