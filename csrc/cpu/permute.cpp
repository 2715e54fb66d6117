#include "permute.h"

#include <stdexcept>
#include <string>

#include "isa.h"

namespace equikernels {
namespace {

// Bytes of output in one unit of work, about; below the second, waking another thread costs more than it saves.
constexpr int64_t kUnitBytes = 1 << 16;
constexpr int64_t kSerialBytes = 1 << 16;
// Larger results are written past the caches: what reads them next finds little of them there anyway. Measured with 32
// MiB of last-level cache; what the system tells of its size cannot be trusted in virtual machines.
constexpr int64_t kStreamedBytes = 12 << 20;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const PermuteMovers& movers() {
  switch (selected_isa()) {
#ifdef EQUIKERNELS_X86
    case Isa::avx512: return permute_movers_avx512;
    case Isa::avx2: return permute_movers_avx2;
#endif
    default: return permute_movers_baseline;
  }
}

PermuteMover mover_for(int64_t value_bytes, bool streamed) {
  for (int power = 0; power < 5; ++power) {
    if (value_bytes == int64_t(1) << power) return (streamed ? movers().streamed : movers().cached)[power];
  }
  throw std::invalid_argument("z: expected values of 1, 2, 4, 8 or 16 bytes, got " + std::to_string(value_bytes));
}

// How one sample is read: where its first output value comes from, and the input's stride along each output axis.
struct Source {
  int64_t offset;
  int64_t stride[3];
};

// Output sizes: channels, depth, rows, columns.
struct Shape {
  int64_t size[4];
};

Shape output_shape(const PermuteJob& job) {
  const int64_t* size = job.size + 1;
  if (job.swapped) return {{size[0], size[1], size[3], size[2]}};
  return {{size[0], size[1], size[2], size[3]}};
}

const int64_t* table_row(const PermuteJob& job, int64_t sample) {
  int64_t element = job.elements[sample * job.element_stride];
  if (job.wrap) element &= job.table_rows - 1;
  if (element < 0 || element >= job.table_rows) {
    throw std::invalid_argument("g: expected elements 0 .. " + std::to_string(job.table_rows - 1) + ", got " +
                                std::to_string(element));
  }
  return job.table + 3 * element;
}

int64_t input_axis(int64_t entry) { return (entry > 0 ? entry : -entry) - 1; }

Source source_of(const PermuteJob& job, int64_t sample) {
  const int64_t* row = table_row(job, sample);
  Source source{sample * job.stride[0], {}};
  for (int a = 0; a < 3; ++a) {
    const int64_t b = input_axis(row[a]);
    const int64_t stride = job.stride[2 + b];
    source.stride[a] = row[a] > 0 ? stride : -stride;
    if (row[a] < 0) source.offset += (job.size[2 + b] - 1) * stride;
  }
  return source;
}

// Every element must be a row of the table and carry the input's shape to the output's, or memory outside of
// the input would be read.
void check(const PermuteJob& job, const Shape& shape) {
  uint64_t fitting = 0;  // one bit for every row of the table
  for (int64_t r = 0; r < job.table_rows; ++r) {
    bool fits = true;
    for (int a = 0; a < 3; ++a) fits = fits && job.size[2 + input_axis(job.table[3 * r + a])] == shape.size[1 + a];
    fitting |= uint64_t(fits) << r;
  }
  for (int64_t sample = 0; sample < job.size[0]; ++sample) {
    const int64_t row = (table_row(job, sample) - job.table) / 3;
    if ((fitting >> row & 1) == 0) {
      throw std::invalid_argument("elements: an element does not carry the shape of z to the output's");
    }
  }
}

// How a sample's output is cut: whole channels where they are small, else slices or rows of one channel.
struct Cut {
  int64_t size[3];   // channels, depth and rows of one unit
  int64_t count[3];  // units along each
};

Cut cut_of(const Shape& shape, int64_t value_bytes) {
  Cut cut{{1, 1, 1}, {1, 1, 1}};
  int64_t bytes = shape.size[3] * value_bytes;
  // From the innermost axis outwards, each as far as the unit allows.
  for (int axis = 2; axis >= 0; --axis) {
    const int64_t fit = kUnitBytes / bytes;
    cut.size[axis] = fit < 1 ? 1 : (fit < shape.size[axis] ? fit : shape.size[axis]);
    cut.count[axis] = ceil_div(shape.size[axis], cut.size[axis]);
    if (cut.count[axis] > 1) bytes = kUnitBytes;  // no further
    else bytes *= shape.size[axis];
  }
  return cut;
}

void run_unit(const PermuteJob& job, const Shape& shape, const Cut& cut, PermuteMover mover, int64_t sample,
              const int64_t (&index)[3]) {
  int64_t first[3];
  for (int axis = 0; axis < 3; ++axis) first[axis] = index[axis] * cut.size[axis];
  const Source source = source_of(job, sample);
  const int64_t stride[4] = {job.stride[1], source.stride[0], source.stride[1], source.stride[2]};
  PermuteBox box{};
  int64_t from = source.offset;
  int64_t to = sample;
  for (int axis = 0; axis < 4; ++axis) {
    const int64_t left = axis < 3 ? shape.size[axis] - first[axis] : shape.size[3];
    const int64_t start = axis < 3 ? first[axis] : 0;
    box.size[axis] = axis < 3 && cut.size[axis] < left ? cut.size[axis] : left;
    box.from[axis] = stride[axis];
    from += start * stride[axis];
    to = to * shape.size[axis] + start;
  }
  box.to[3] = 1;
  for (int axis = 2; axis >= 0; --axis) box.to[axis] = box.to[axis + 1] * shape.size[axis + 1];
  mover(static_cast<char*>(job.out) + to * job.value_bytes,
        static_cast<const char*>(job.z) + from * job.value_bytes, box);
}

}  // namespace

void permute(const PermuteJob& job, int threads) {
  const Shape shape = output_shape(job);
  check(job, shape);
  int64_t values = job.size[0];
  for (int64_t size : shape.size) values *= size;
  const PermuteMover mover = mover_for(job.value_bytes, values * job.value_bytes > kStreamedBytes);
  if (values == 0) return;
  const Cut cut = cut_of(shape, job.value_bytes);
  const int64_t units = job.size[0] * cut.count[0] * cut.count[1] * cut.count[2];
  int64_t team = threads < units ? threads : units;
  if (values * job.value_bytes <= kSerialBytes) team = 1;
  const auto run = [&](int64_t sample, int64_t a, int64_t b, int64_t c) {
    run_unit(job, shape, cut, mover, sample, {a, b, c});
  };
  const int64_t batch = job.size[0], *count = cut.count;
  if (team <= 1) {
    // No parallel region at all: this path is safe in a forked child.
    for (int64_t sample = 0; sample < batch; ++sample) {
      for (int64_t a = 0; a < count[0]; ++a) {
        for (int64_t b = 0; b < count[1]; ++b) {
          for (int64_t c = 0; c < count[2]; ++c) run(sample, a, b, c);
        }
      }
    }
    return;
  }
#pragma omp parallel for collapse(4) num_threads(team) schedule(static)
  for (int64_t sample = 0; sample < batch; ++sample) {
    for (int64_t a = 0; a < count[0]; ++a) {
      for (int64_t b = 0; b < count[1]; ++b) {
        for (int64_t c = 0; c < count[2]; ++c) run(sample, a, b, c);
      }
    }
  }
}

}  // namespace equikernels
