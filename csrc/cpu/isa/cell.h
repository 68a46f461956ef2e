// Labels of the output pixels inside one cell of four neighbouring feature pixels (bilinear.h).
#pragma once

#include "cpu/isa/kernels.h"
#include "cpu/isa/vectors.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

template <int W>
struct CellKernels : Vectors<W> {
  using V = Vectors<W>;
  using typename V::Floats;
  using typename V::Ints;

  static CornerBounds corner_bounds(const float* const* corners, int64_t tags, float* low,
                                    float* high) {
    Floats best = V::fill(-__builtin_inff()), lowest = V::fill(0), highest = V::fill(0);
    int64_t t = 0;
    for (; t + W <= tags; t += W) {
      Floats corner[4];
      for (int c = 0; c < 4; ++c) corner[c] = V::load(corners[c] + t);
      const Floats least = V::min(V::min(corner[0], corner[1]), V::min(corner[2], corner[3]));
      const Floats most = V::max(V::max(corner[0], corner[1]), V::max(corner[2], corner[3]));
      V::store(low + t, least);
      V::store(high + t, most);
      best = V::max(best, least);
      lowest = V::min(lowest, least);
      highest = V::max(highest, most);
    }
    CornerBounds bounds = {-__builtin_inff(), 0};
    for (int w = 0; w < W; ++w) add(bounds, best[w], lowest[w], highest[w]);
    for (; t < tags; ++t) {
      low[t] = high[t] = corners[0][t];
      for (int c = 1; c < 4; ++c) {
        if (corners[c][t] < low[t]) low[t] = corners[c][t];
        if (corners[c][t] > high[t]) high[t] = corners[c][t];
      }
      add(bounds, low[t], low[t], high[t]);
    }
    return bounds;
  }

  static void label_cell(const Cell& cell) {
    for (int64_t y = 0; y < cell.height; y += kRows) {
      // Rows beyond the last repeat it.
      for (int64_t r = 0; r < kRows; ++r) {
        interpolate_edges(cell, y + r < cell.height ? y + r : cell.height - 1,
                          cell.edges + r * 2 * cell.edge_stride);
      }
      for (int64_t x = 0; x < cell.width; x += W) {
        if (cell.k == 1) {
          label_best(cell, y, x);
        } else {
          for (int64_t r = 0; r < kRows && y + r < cell.height; ++r) label_k_best(cell, y, x, r);
        }
      }
    }
  }

 private:
  static constexpr int64_t kRows = tuning::kCellRows;

  static void add(CornerBounds& bounds, float low, float lowest, float highest) {
    if (low > bounds.best_low) bounds.best_low = low;
    if (-lowest > bounds.largest) bounds.largest = -lowest;
    if (highest > bounds.largest) bounds.largest = highest;
  }

  static Floats lerp(Floats a, Floats b, Floats weight) { return a + V::times(weight, b - a); }

  // The values on the cell's left edge in row y, and their differences to those on its right edge.
  static void interpolate_edges(const Cell& cell, int64_t y, float* edges) {
    const Floats weight = V::fill(cell.y_weights[y]);
    for (int64_t t = 0; t < cell.tags; t += W) {
      Floats corner[4];
      for (int c = 0; c < 4; ++c) corner[c] = V::load(cell.corners + c * cell.edge_stride + t);
      const Floats left = lerp(corner[0], corner[2], weight);
      const Floats right = lerp(corner[1], corner[3], weight);
      V::store(edges + t, left);
      V::store(edges + cell.edge_stride + t, right - left);
    }
  }

  static Floats value(const float* left, int64_t edge_stride, Floats weight) {
    return *left + V::times(weight, V::fill(left[edge_stride]));
  }

  static void label_best(const Cell& cell, int64_t y, int64_t x) {
    const Floats weight = V::load(cell.x_weights + x);
    Floats best[kRows];
    Ints tag[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      best[r] = V::fill(-__builtin_inff());
      tag[r] = Ints{} - 1;
    }
    Ints t_everywhere = {};
    const int64_t stride = cell.edge_stride;
    for (int64_t t = 0; t < cell.tags; ++t) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Floats v = value(cell.edges + r * 2 * stride + t, stride, weight);
        const Ints better = v > best[r];  // the first of equals is kept
        best[r] = better ? v : best[r];
        tag[r] = better ? t_everywhere : tag[r];
      }
      t_everywhere += 1;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats v = V::fill(cell.background);
      const Ints better = v > best[r];
      if (y + r < cell.height) {
        write(cell, 0, y + r, x, better ? v : best[r], better ? Ints{} - 1 : tag[r]);
      }
    }
  }

  static void label_k_best(const Cell& cell, int64_t y, int64_t x, int64_t r) {
    constexpr int64_t kTogether = tuning::kCellTags;
    const Floats weight = V::load(cell.x_weights + x);
    const float* edges = cell.edges + r * 2 * cell.edge_stride;
    float* best = cell.best;
    int32_t* tag = cell.best_tags;
    for (int64_t i = 0; i < cell.k * W; ++i) {
      best[i] = -__builtin_inff();
      tag[i] = -1;
    }
    for (int64_t t = 0; t < cell.tags; t += kTogether) {
      const int64_t end = t + kTogether < cell.tags ? t + kTogether : cell.tags;
      const Floats last = V::load(best + (cell.k - 1) * W);
      Ints better = {};
      for (int64_t i = t; i < end; ++i) {
        better |= value(edges + i, cell.edge_stride, weight) > last;
      }
      if (!V::any(better)) continue;
      for (int64_t i = t; i < end; ++i) {
        insert(cell, value(edges + i, cell.edge_stride, weight), static_cast<int32_t>(i));
      }
    }
    insert(cell, V::fill(cell.background), -1);
    for (int64_t j = 0; j < cell.k; ++j) {
      write(cell, j, y + r, x, V::load(best + j * W), V::load(tag + j * W));
    }
  }

  // Inserts v behind all values that are as good, from the bottom up: most rise only a few places.
  static void insert(const Cell& cell, Floats v, int32_t t) {
    const Ints in_hand = Ints{} + t;
    for (int64_t j = cell.k - 1; j >= 0; --j) {
      float* best = cell.best + j * W;
      int32_t* tag = cell.best_tags + j * W;
      const Floats here = V::load(best);
      const Ints here_tag = V::load(tag);
      const Ints wins = v > here;
      if (!V::any(wins)) return;
      // The value that v displaces moves down to where v was stored in the last iteration.
      V::store(best, wins ? v : here);
      V::store(tag, wins ? in_hand : here_tag);
      if (j + 1 < cell.k) {
        V::store(best + W, wins ? here : V::load(best + W));
        V::store(tag + W, wins ? here_tag : V::load(tag + W));
      }
    }
  }

  static void write(const Cell& cell, int64_t place, int64_t y, int64_t x, Floats values,
                    Ints tags) {
    const int64_t at = place * cell.place_stride + y * cell.row_stride + x;
    for (int64_t w = 0; w < W && x + w < cell.width; ++w) {
      cell.values[at + w] = values[w];
      cell.indices[at + w] = tags[w] < 0 ? -1 : cell.tag_indices[tags[w]];
    }
  }
};

}  // namespace
}  // namespace fastclip::cpu
