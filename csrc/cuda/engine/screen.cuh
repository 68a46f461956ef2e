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
  float dot, scale, margin;

  __device__ float x() const { return dot * scale; }
  __device__ float upper() const { return fmaf(dot, scale, margin); }
  __device__ float lower() const { return fmaf(dot, scale, -margin); }
};

// Calls visit(h, bit, score) for the 32 scores that this lane holds of a strip: h tells the query,
// bits 4 n + 2 h + c number the scores. The two scores of a key are adjacent, keys ascend.
template <class Visit>
__device__ __forceinline__ void visit_strip(const int (&dots)[8][4], const Strip& strip,
                                            const ScreenQuery (&queries)[2], Visit visit) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = Strip::column(n, c);
      const float scale = strip.scale[column];
      const float error = strip.error[column];
      const float norm = strip.norm[column];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int dot = dots[n][2 * h + c] + queries[h].correction;
        const float margin = screen_margin(queries[h], error, norm);
        visit(h, 4 * n + 2 * h + c, ScreenedScore{static_cast<float>(dot), scale, margin});
      }
    }
  }
}

// The key of a bit of visit_strip.
__device__ inline int64_t key_of_bit(const Strip& strip, int bit) {
  return strip.first_key + Strip::column(bit / 4, bit % 2);
}

}  // namespace fastclip::cuda
