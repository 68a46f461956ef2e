// From the products of a strip to bounds on its scores (fastclip/screen.h), for epilogues.
#pragma once

#include "cuda/arch/mainloop_params.cuh"

namespace fastclip::cuda {

// alpha E + beta N of screen.h, (2).
__device__ inline float screen_margin(const ScreenQuery& query, float error, float norm) {
  return fmaf(query.alpha, error, query.beta * norm);
}

// Bounds on one score, without gamma, in units of s_q and relative to q.c.
struct ScreenedScore {
  float dot, scale, error, norm;

  __device__ float margin(const ScreenQuery& query) const {
    return screen_margin(query, error, norm);
  }
  __device__ float x() const { return dot * scale; }
  __device__ float lower(const ScreenQuery& query) const {
    return fmaf(dot, scale, -margin(query));
  }
  // By how much the upper bound is above `threshold`: negative only where it is below. Three
  // roundings, of numbers no larger than twice those of screen.h where the pair reaches its
  // threshold, since that is then no larger than they; its slack covers them.
  __device__ float excess(const ScreenQuery& query, float threshold) const {
    return fmaf(dot, scale, fmaf(query.alpha, error, fmaf(query.beta, norm, -threshold)));
  }
};

// Calls visit(h, bit, score) for the 32 scores that this lane holds of a strip: h tells the query,
// bits 4 n + 2 h + c number the scores, and are visited in their order.
template <class Visit>
__device__ __forceinline__ void visit_strip(const int (&dots)[8][4], const Strip& strip,
                                            Visit visit) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const int column = Strip::column(n, 0);
    const auto scale = *reinterpret_cast<const float2*>(strip.scale + column);
    const auto error = *reinterpret_cast<const float2*>(strip.error + column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto dot = static_cast<float>(dots[n][i]);
      visit(i / 2, 4 * n + i,
            i % 2 == 0 ? ScreenedScore{dot, scale.x, error.x, strip.norm}
                       : ScreenedScore{dot, scale.y, error.y, strip.norm});
    }
  }
}

// The key of a bit of visit_strip, and the query.
__device__ inline int64_t key_of_bit(const Strip& strip, int bit) {
  return strip.first_key + Strip::column(bit / 4, bit % 2);
}
__device__ inline int64_t query_of_bit(const Strip& strip, int bit) {
  return strip.query(bit / 2 % 2);
}

// One of the products from `first` to `first + count - 1`, of a strip seen as 32: no register has
// an address, so halves are chosen from.
template <int first = 0, int count = 32>
__device__ __forceinline__ int product_of_bit(const int (&dots)[8][4], int bit) {
  if constexpr (count == 1) {
    return dots[first / 4][first % 4];
  } else {
    const int low = product_of_bit<first, count / 2>(dots, bit);
    const int high = product_of_bit<first + count / 2, count / 2>(dots, bit);
    return (bit & (count / 2)) != 0 ? high : low;
  }
}

__device__ inline float x_of_bit(const int (&dots)[8][4], const Strip& strip, int bit) {
  return static_cast<float>(product_of_bit(dots, bit)) *
         strip.scale[Strip::column(bit / 4, bit % 2)];
}

// What is asked of the upper bounds of the two queries of a lane.
struct ThresholdRows {
  __device__ ThresholdRows(const ScreenQuery& query0, const ScreenQuery& query1, float threshold0,
                           float threshold1)
      : query{query0, query1}, threshold{threshold0, threshold1} {}

  ScreenQuery query[2];
  float threshold[2];
};

// Bits of the scores of this lane whose upper bounds reach thresholds: for most strips none of the
// warp's do, so that this is nearly all the work there is. load(n, to) gives those of columns n, by
// h and c, which may not be NaN, since signs alone are looked at.
template <class Load>
__device__ __forceinline__ uint32_t reaching(const int (&dots)[8][4], const Strip& strip,
                                             const ScreenQuery (&query)[2], Load load) {
  uint32_t below = 0;
  float threshold[2][2];
  visit_strip(dots, strip, [&](int h, int bit, const ScreenedScore& score) {
    if (bit % 4 == 0) load(bit / 4, threshold);
    const float excess = score.excess(query[h], threshold[h][bit % 2]);
    // One instruction: the sign comes in from below.
    below = __funnelshift_l(__float_as_uint(excess), below, 1);
  });
  return ~__brev(below) & strip.bits();
}

__device__ __forceinline__ uint32_t reaching(const int (&dots)[8][4], const Strip& strip,
                                             const ThresholdRows& rows) {
  return reaching(dots, strip, rows.query, [&](int, float(&to)[2][2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      to[h][0] = to[h][1] = std::isnan(rows.threshold[h]) ? INFINITY : rows.threshold[h];
    }
  });
}

}  // namespace fastclip::cuda
