// Sums over support images and comparisons of classes (cache_grid.cpp), W numbers of float64 at a
// time.
#pragma once

#include "cpu/isa/kernels.h"

namespace fastclip::cpu {
namespace {

template <int W>
struct GridTile {
  typedef double Doubles __attribute__((vector_size(W * 8)));
  typedef int64_t Longs __attribute__((vector_size(W * 8)));
  static_assert(kGridPadding % W == 0);

  static void add_and_multiply(double* weights, const double* factors, int64_t count,
                               double* sums) {
    for (int64_t c = 0; c < count; c += W) {
      const Doubles weight = load<Doubles>(weights + c);
      store(sums + c, load<Doubles>(sums + c) + weight);
      store(weights + c, weight * load<Doubles>(factors + c));
    }
  }

  static AlphaRange where_ahead(double own, const double* sums, const double* leads,
                                const int64_t* wins_ties, int64_t count) {
    constexpr double kInfinity = __builtin_inf();
    const Doubles lowest = Doubles{} - kInfinity, highest = Doubles{} + kInfinity;
    Doubles from = lowest, above = lowest, to = highest, below = highest;
    Longs lost = {};
    for (int64_t c = 0; c < count; c += W) {
      const Doubles slope = own - load<Doubles>(sums + c);
      const Doubles lead = load<Doubles>(leads + c);
      const Longs wins = load<Longs>(wins_ties + c);
      const Doubles border = -lead / slope;  // where both classes have equal scores
      const Longs rises = slope > 0, falls = slope < 0;
      from = larger(from, (rises & wins) ? border : lowest);
      above = larger(above, (rises & ~wins) ? border : lowest);
      to = smaller(to, (falls & wins) ? border : highest);
      below = smaller(below, (falls & ~wins) ? border : highest);
      // Elsewhere alpha changes nothing between the two.
      lost |= ~(rises | falls) & ((lead < 0) | ((lead == 0) & ~wins));
    }
    AlphaRange range = {-kInfinity, -kInfinity, kInfinity, kInfinity, false};
    double lanes[4][W];
    int64_t lost_lanes[W];
    store(lanes[0], from), store(lanes[1], above), store(lanes[2], to), store(lanes[3], below);
    __builtin_memcpy(lost_lanes, &lost, sizeof(lost));
    for (int w = 0; w < W; ++w) {
      range.from = range.from > lanes[0][w] ? range.from : lanes[0][w];
      range.above = range.above > lanes[1][w] ? range.above : lanes[1][w];
      range.to = range.to < lanes[2][w] ? range.to : lanes[2][w];
      range.below = range.below < lanes[3][w] ? range.below : lanes[3][w];
      range.empty |= lost_lanes[w] != 0;
    }
    return range;
  }

 private:
  template <class Vector, class T>
  static Vector load(const T* from) {
    Vector v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  }
  static void store(double* to, Doubles v) { __builtin_memcpy(to, &v, sizeof(v)); }
  static Doubles larger(Doubles a, Doubles b) { return a > b ? a : b; }
  static Doubles smaller(Doubles a, Doubles b) { return a < b ? a : b; }
};

}  // namespace
}  // namespace fastclip::cpu
