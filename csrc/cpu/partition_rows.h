// Channels that are not turned: tiles copied, added up, passed on.
#pragma once

#include "rotate_scratch.h"

namespace {

// A tile as few long rows: all of it where both tensors run through whole rows without a gap.
struct Rows {
  int64_t count, length;
};
template <class P, class Q>
inline Rows rows_of(const Box& tile, const Planes<P>& a, const Planes<Q>& b) {
  const bool joined = a.column == 1 && b.column == 1 && a.row == tile.width && b.row == tile.width;
  return joined ? Rows{1, tile.height * tile.width} : Rows{tile.height, tile.width};
}

template <class S>
__attribute__((noinline)) void copy_tile(const Planes<const S>& from, const Planes<S>& to, const Box& tile) {
  const Rows rows = rows_of(tile, from, to);
  for (int64_t i = 0; i < from.live; ++i) {
    for (int64_t y = 0; y < rows.count; ++y) {
      const S* p = from.at[i] + (tile.y + y) * from.row + tile.x * from.column;
      S* q = to.at[i] + (tile.y + y) * to.row + tile.x;
      if (from.column == 1) {
        memcpy(q, p, size_t(rows.length) * sizeof(S));
      } else {
        for (int64_t x = 0; x < rows.length; ++x) q[x] = p[x * from.column];
      }
    }
  }
}

// Sum of (a - b)^2 of all live channels.
template <class S>
__attribute__((noinline)) double squared_distance(const Planes<const S>& a, const Planes<const S>& b, const Box& tile) {
  typedef Vector<Compute<S>> V;
  const Rows rows = rows_of(tile, a, b);
  Vector<double> sum{};
  for (int64_t i = 0; i < a.live; ++i) {
    for (int64_t y = 0; y < rows.count; ++y) {
      const S* p = a.at[i] + (tile.y + y) * a.row + tile.x * a.column;
      const S* q = b.at[i] + (tile.y + y) * b.row + tile.x * b.column;
      // Four vectors at a time, so that additions in double do not wait for each other.
      for (int64_t x = 0; x < rows.length; x += 16) {
        V square[4] = {};
        for (int64_t k = 0; k < 4 && x + 4 * k < rows.length; ++k) {
          const int64_t at = x + 4 * k;
          const V d = load_some(p + at * a.column, a.column, rows.length - at) -
                      load_some(q + at * b.column, b.column, rows.length - at);
          square[k] = d * d;
        }
        sum += widened(V((square[0] + square[1]) + (square[2] + square[3])));
      }
    }
  }
  return sum_lanes(sum);
}

// to = grad + factor (z - target).
template <class S>
__attribute__((noinline)) void add_difference(const Planes<const S>& grad, const Planes<const S>& z, const Planes<const S>& target,
                           Compute<S> factor, const Planes<S>& to, const Box& tile) {
  const Rows pair = rows_of(tile, z, target), other = rows_of(tile, grad, to);
  const Rows rows = pair.count < other.count ? other : pair;
  for (int64_t i = 0; i < grad.live; ++i) {
    for (int64_t y = 0; y < rows.count; ++y) {
      const S* g = grad.at[i] + (tile.y + y) * grad.row + tile.x * grad.column;
      const S* p = z.at[i] + (tile.y + y) * z.row + tile.x * z.column;
      const S* q = target.at[i] + (tile.y + y) * target.row + tile.x * target.column;
      S* out = to.at[i] + (tile.y + y) * to.row + tile.x;
      for (int64_t x = 0; x < rows.length; x += 4) {
        const int64_t left = rows.length - x;
        const auto d = load_some(p + x * z.column, z.column, left) - load_some(q + x * target.column, target.column, left);
        store_some(out + x, load_some(g + x * grad.column, grad.column, left) + factor * d, left);
      }
    }
  }
}

// Sum of (a - b) z of one channel.
template <class S>
__attribute__((noinline)) double weighted_difference(const Planes<const S>& a, const Planes<const S>& b, const Planes<const S>& z,
                                  const Box& tile) {
  typedef Vector<Compute<S>> V;
  const Rows pair = rows_of(tile, a, b), other = rows_of(tile, z, z);
  const Rows rows = pair.count < other.count ? other : pair;
  Vector<double> sum{};
  for (int64_t y = 0; y < rows.count; ++y) {
    const S* p = a.at[0] + (tile.y + y) * a.row + tile.x * a.column;
    const S* q = b.at[0] + (tile.y + y) * b.row + tile.x * b.column;
    const S* r = z.at[0] + (tile.y + y) * z.row + tile.x * z.column;
    for (int64_t x = 0; x < rows.length; x += 16) {
      V term[4] = {};
      for (int64_t k = 0; k < 4 && x + 4 * k < rows.length; ++k) {
        const int64_t at = x + 4 * k, left = rows.length - at;
        const V d = load_some(p + at * a.column, a.column, left) - load_some(q + at * b.column, b.column, left);
        term[k] = d * load_some(r + at * z.column, z.column, left);
      }
      sum += widened(V((term[0] + term[1]) + (term[2] + term[3])));
    }
  }
  return sum_lanes(sum);
}

}  // namespace
