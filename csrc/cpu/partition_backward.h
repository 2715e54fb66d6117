// Gradients of a partitioned rotation. With y = A z, m the mask, t the target, g the gradient to the output and
// g_i, g_v those to the losses, the gradient to y of a turned channel is
//     h = g + 2 g_v (y - t),   so z receives A^T h and the angle <h, A_1 z>;
// z of a copied channel receives g + 2 g_i (z - t), and the mask of every channel
//     sum g (y - z) + e,   e = 2 g_v sum m (y - t) y - 2 g_i sum (1 - m) (z - t) z   (straight-through)
//                          e = g_v sum (y - t)^2 - g_i sum (z - t)^2                 (counterfactual).
#pragma once

#include "partition_forward.h"

namespace {

// What one sample needs besides its images.
template <class T>
struct Upstream {
  T grad_i = 0, grad_v = 0;
  Upstream(const PartitionJob& job, int64_t sample, bool losses) {
    if (!losses) return;
    grad_i = number_at<T>(job.grad_i, sample, 0);
    grad_v = number_at<T>(job.grad_v, sample, 0);
  }
};

// Gradient to z of copied channels.
template <class S, bool kLosses>
__attribute__((noinline)) void pass_on(const PartitionJob& job, const Unit& unit, const Group& group,
                    const Upstream<Compute<S>>& upstream) {
  const Planes<const S> grad = planes_of<S>(job.images.grad, unit.sample, group);
  const Planes<S> out = planes_to<S>(job.images, job.images.out, unit.sample, group);
  if (!kLosses) return copy_tile(grad, out, unit.tile);
  const Planes<const S> z = planes_of<S>(job.images.z, unit.sample, group);
  const Planes<const S> target = planes_of<S>(job.target, unit.sample, group);
  add_difference(grad, z, target, 2 * upstream.grad_i, out, unit.tile);
}

// The part of a block in the gradient to the mask.
template <class L, bool kLosses>
EQUIKERNELS_INLINE typename L::Block mask_terms(const typename L::Block& g, const typename L::Block& y, const typename L::Block& z,
                                    const typename L::Block& target, bool turned, bool counterfactual,
                                    const Upstream<typename L::T>& upstream) {
  typename L::Block terms = g * (y - z);
  if (!kLosses) return terms;
  if (counterfactual) {
    const typename L::Block after = y - target, before = z - target;
    return terms + L::every(upstream.grad_v) * (after * after) - L::every(upstream.grad_i) * (before * before);
  }
  if (turned) return terms + L::every(2 * upstream.grad_v) * ((y - target) * y);
  return terms - L::every(2 * upstream.grad_i) * ((z - target) * z);
}

// What one pass over the output pixels of a tile gives a group of channels.
template <class S, template <class> class Layout, bool kLosses>
struct GradientPass {
  typedef Layout<S> L;
  typedef typename L::T T;
  typedef typename L::Block Block;

  const PartitionJob& job;
  const Unit& unit;
  int64_t index;
  const Upstream<T>& upstream;
  typename L::Scratch& image;
  typename L::Scratch* sum;  // collects the gradient to z of turned channels; null: it goes to job.upstream
  Strips<T>& strips;
  double angle;

  template <bool kAngle>
  __attribute__((noinline)) void run(const Group& group, bool turned) {
    const RotateJob& images = job.images;
    const bool mask = job.mask_partial != nullptr, gathers = mask || kLosses;
    const bool scatters = turned && images.out != nullptr && sum != nullptr;
    const bool stores = turned && job.upstream != nullptr;
    const Planes<const S> grad = planes_of<S>(images.grad, unit.sample, group);
    const Planes<const S> z = planes_of<S>(images.z, unit.sample, group);
    const Planes<const S> target = kLosses ? planes_of<S>(job.target, unit.sample, group) : z;
    const Planes<T> kept = stores ? planes_to<T>(images, job.upstream, unit.sample, group) : Planes<T>{};
    const Box& tile = unit.tile;
    const int64_t end = tile.x + tile.width;
    const Block twice = L::every(2 * upstream.grad_v);
    Vector<double> mask_sum{}, angle_sum{};
    strips.begin_group();
    if (scatters) sum->clear();
    for (int64_t row = tile.y; row < tile.y + tile.height; ++row) {
      for (int64_t x = tile.x; x < end; x += kStrip) {
        const int count = int(smaller(kStrip, end - x)), blocks = (count + 3) / 4;
        const auto& strip = strips.template next<true, kAngle>(row, x, count);
        for (int block = 0; block < blocks; ++block) {
          const Piece piece = piece_of(spread_block(block, blocks), count);
          const int i = piece.at;
          const int64_t column = x + i;
          const Block g = L::load(grad, row * grad.row + column * grad.column, count - i);
          Block y = L::every(0), t = y, h = g;
          if (gathers) y = L::gather(image, strip.offset, strip.tap, i);
          if (kLosses) t = L::load(target, row * target.row + column * target.column, count - i);
          if (kLosses) h = g + twice * (y - t);
          if (stores) L::store(kept, row * kept.row + column, count - i, h);
          if (!piece.own()) h = L::keep(h, piece.begin, piece.end);
          if (scatters) L::scatter(*sum, strip.offset, strip.tap, i, h);
          if (kAngle && turned) {
            angle_sum += widened(L::product(h, L::gather(image, strip.offset, strip.slope, i)));
          }
          if (!mask) continue;
          const Block here = sum != nullptr ? L::copied(image, row, column)
                                            : L::load(z, row * z.row + column * z.column, count - i);
          Block terms = mask_terms<L, kLosses>(g, y, here, t, turned, job.counterfactual, upstream);
          if (!piece.own()) terms = L::keep(terms, piece.begin, piece.end);
          mask_sum += widened(L::total(terms));
        }
      }
    }
    if (scatters) L::copy_out(*sum, planes_to<S>(images, images.out, unit.sample, group));
    if (kAngle) angle += sum_lanes(angle_sum);
    if (!mask) return;
    double sums[4] = {};
    L::by_channel(mask_sum, sums);
    for (int64_t i = 0; i < group.live; ++i) mask_partial_at(job, unit, index, group.channel[i]) = sums[i];
  }

  void run(const Group& group, bool turned) {
    if (job.images.partial != nullptr) {
      run<true>(group, turned);
    } else {
      run<false>(group, turned);
    }
  }
};

// The gradient to z of channels of an undefined mask, or turned by an undefined angle.
template <class S>
inline void undefined_images(const RotateJob& images, const Unit& unit, const Group& group) {
  fill_tile(planes_to<S>(images, images.out, unit.sample, group), unit.tile, __builtin_nanf(""));
}

inline void undefined_masks(const PartitionJob& job, const Unit& unit, int64_t index, const Group& group) {
  for (int64_t i = 0; i < group.live; ++i) {
    mask_partial_at(job, unit, index, group.channel[i]) = __builtin_nan("");
  }
}

template <class S, template <class> class Layout, bool kLosses>
void partition_backward_unit(const PartitionJob& job, const Unit& unit, int64_t index, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const RotateJob& images = job.images;
  const auto& plan = images.plan;
  const bool whole = plan.tiles_y * plan.tiles_x == 1, to_z = whole && images.out != nullptr;
  const Rotation<T> rotation(images, unit.sample);
  const Upstream<T> upstream(job, unit.sample, kLosses);
  const bool to_mask = job.mask_partial != nullptr;
  double angle = 0;
  for_groups<T>(job, unit, Kind::undefined, [&](const Group& group) {
    if (to_z) undefined_images<S>(images, unit, group);
    // The straight-through gradient of the losses is the one that the mask itself appears in.
    if (to_mask && kLosses && !job.counterfactual) undefined_masks(job, unit, index, group);
    angle = __builtin_nan("");
  });
  if (to_z) {
    for_groups<T>(job, unit, Kind::copied, [&](const Group& group) { pass_on<S, kLosses>(job, unit, group, upstream); });
  }
  if (rotation.defined) {
    const Box box = whole ? unit.tile : box_of(rotation, unit.tile);
    typename L::Scratch sum(memory, box), image(sum.end(), box);
    const Locator<T> locator(rotation, images.order, box, image.pitch, sizeof(typename L::Pixel));
    Strips<T> strips(locator, strip_table<T>(images, image.end()));
    GradientPass<S, Layout, kLosses> pass{job, unit, index, upstream, image, whole ? &sum : nullptr, strips, 0};
    bool first = true;
    const auto visit = [&](const Group& group, bool turned) {
      L::copy_in(image, planes_of<S>(images.z, unit.sample, group), first);
      first = false;
      pass.run(group, turned);
    };
    const auto still = [&](const Group& group) { visit(group, false); };
    for_groups<T>(job, unit, Kind::turned, [&](const Group& group) { visit(group, true); });
    if (to_mask) for_groups<T>(job, unit, Kind::copied, still);
    if (to_mask && (!kLosses || job.counterfactual)) for_groups<T>(job, unit, Kind::undefined, still);
    angle += pass.angle;
  } else {
    for_groups<T>(job, unit, Kind::turned, [&](const Group& group) {
      if (to_z) undefined_images<S>(images, unit, group);
      angle = __builtin_nan("");
    });
    const auto undefined = [&](const Group& group) { undefined_masks(job, unit, index, group); };
    if (to_mask) {
      for_groups<T>(job, unit, Kind::turned, undefined);
      for_groups<T>(job, unit, Kind::copied, undefined);
      for_groups<T>(job, unit, Kind::undefined, undefined);
    }
  }
  if (images.partial != nullptr) images.partial[index] = angle;
}

// The gradient to z alone, of a tile that may be one of several: A^T of job.upstream, or of the gradient to the
// output where there are no losses.
template <class S, template <class> class Layout, bool kLosses>
void partition_adjoint_unit(const PartitionJob& job, const Unit& unit, int64_t, char* memory) {
  typedef Layout<S> L;
  typedef typename L::T T;
  const RotateJob& images = job.images;
  const Rotation<T> rotation(images, unit.sample);
  const Upstream<T> upstream(job, unit.sample, kLosses);
  const auto undefined = [&](const Group& group) { undefined_images<S>(images, unit, group); };
  for_groups<T>(job, unit, Kind::undefined, undefined);
  for_groups<T>(job, unit, Kind::copied, [&](const Group& group) { pass_on<S, kLosses>(job, unit, group, upstream); });
  if (!rotation.defined) return for_groups<T>(job, unit, Kind::turned, undefined);
  typename L::Scratch sum(memory, unit.tile), image(sum.end(), unit.tile);
  const Locator<T> locator(rotation, images.order, unit.tile, sum.pitch, sizeof(typename L::Pixel));
  Strips<T> strips(locator, strip_table<T>(images, image.end()));
  const Box from = rotation.reach(unit.tile, -1);
  for_groups<T>(job, unit, Kind::turned, [&](const Group& group) {
    if (kLosses) {
      Planes<T> stored = planes_to<T>(images, job.upstream, unit.sample, group);
      Planes<const T> grad{{}, stored.row, 1, stored.live, false};
      for (int i = 0; i < 4; ++i) grad.at[i] = stored.at[i];
      adjoint_group<L, false>(rotation, from, grad, image, strips, sum);
    } else {
      adjoint_group<L, false>(rotation, from, planes_of<S>(images.grad, unit.sample, group), image, strips, sum);
    }
    L::copy_out(sum, planes_to<S>(images, images.out, unit.sample, group));
  });
}

}  // namespace
