// What a thread asks about its warp and its grid.
#pragma once

#include "cuda/arch/device.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {

// Of all threads of a one-dimensional grid.
__device__ inline int64_t global_thread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

// Blocks of tuned::kThreads for so many threads.
inline unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>(ceil_div<int64_t>(threads, tuned::kThreads));
}

// The sum and the largest of what the lanes of a warp bring, in every lane.
__device__ inline double warp_sum(double x) {
  for (int half = kWarp / 2; half > 0; half /= 2) x += __shfl_xor_sync(kAllLanes, x, half);
  return x;
}
__device__ inline float warp_largest(float x) {
  for (int half = kWarp / 2; half > 0; half /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, half));
  }
  return x;
}

// The sum of what this lane and those before it bring.
template <class Int>
__device__ Int inclusive_sum(Int x) {
  const int lane = threadIdx.x % kWarp;
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const Int before = __shfl_up_sync(kAllLanes, x, delta);
    if (lane >= delta) x += before;
  }
  return x;
}

__device__ inline void add(int64_t* total, int64_t count) {
  if (count == 0) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(total), static_cast<unsigned long long>(count));
}

}  // namespace fastclip::cuda
