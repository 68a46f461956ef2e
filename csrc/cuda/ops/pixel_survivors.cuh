// The tags that may be among the k best in a cell, by their exact scores.
#pragma once

#include "cuda/ops/pixel_cells.cuh"
#include "cuda/tuning.h"

namespace fastclip::cuda {

// The tags that survive in a cell by their exact scores, in increasing order, a part at a time.
class Survivors {
 public:
  static constexpr int kThreads = tuned::PixelLabels::kThreads;
  static constexpr int kHeld = tuned::PixelLabels::kHeld;

  struct Shared {
    float4 corners[kHeld];
    int64_t tags[kHeld];
    int counts[kThreads / kWarp];
  };

  // `too_large` is set where a score is beyond what can be interpolated.
  __device__ Survivors(const Images& images, const Cell& cell, Shared& shared, int32_t* too_large)
      : images_(images), cell_(cell), shared_(shared) {
    level_ = kth_best(images, [&](int64_t tag) {
      float4 c;
      if (!find(tag, c)) return kNone;
      if (!(fmaxf(highest(c), -lowest(c)) <= kMaxScore)) atomicOr(too_large, 1);
      return lowest(c);
    });
  }

  // Loads the survivors from tag `next` on into shared memory, as many as fit, and advances `next`.
  // Returns how many were loaded. All threads must call.
  __device__ int hold(int64_t& next) {
    int held = 0;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (; next < images_.tags.rows && held + kThreads <= kHeld; next += kThreads) {
      const int64_t tag = next + threadIdx.x;
      float4 c;
      const bool survives = tag < images_.tags.rows && find(tag, c) && highest(c) >= level_;
      const unsigned all = __ballot_sync(kAllLanes, survives);
      __syncthreads();  // the previous contents are no longer needed
      if (lane == 0) shared_.counts[warp] = __popc(all);
      __syncthreads();
      int at = held + __popc(all & ((1u << lane) - 1));
      for (int w = 0; w < kThreads / kWarp; ++w) {
        if (w < warp) at += shared_.counts[w];
        held += shared_.counts[w];
      }
      if (survives) {
        shared_.corners[at] = c;
        shared_.tags[at] = tag;
      }
    }
    __syncthreads();
    return held;
  }

 private:
  __device__ static float lowest(const float4& c) {
    return fminf(fminf(c.x, c.y), fminf(c.z, c.w));
  }
  __device__ static float highest(const float4& c) {
    return fmaxf(fmaxf(c.x, c.y), fmaxf(c.z, c.w));
  }

  // The exact scores of a tag at the corners, if they are known.
  __device__ bool find(int64_t tag, float4& corners) const {
    unsigned marks = kAllLanes;
    for (int c = 0; c < 4; ++c) {
      marks &= images_.marks[cell_.corner(c) * images_.words + tag / kWarp];
    }
    if ((marks >> (tag % kWarp) & 1) == 0) return false;
    const auto score = [&](int c) { return images_.scores[cell_.corner(c) * images_.pitch + tag]; };
    corners = make_float4(score(0), score(1), score(2), score(3));
    return true;
  }

  const Images& images_;
  const Cell& cell_;
  Shared& shared_;
  float level_;
};

}  // namespace fastclip::cuda
