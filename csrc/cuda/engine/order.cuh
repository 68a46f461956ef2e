// Scored keys as whole numbers whose order is that of the answers; selection and sorting by a
// block.
#pragma once

#include "cuda/arch/device.h"
#include "fastclip/operation.h"
#include "fastclip/ordered.h"

namespace fastclip::cuda {

// A score and its key: score descending, then key ascending. 0 is behind all. The last bit, which
// decides nothing, keeps the sign of a zero.
using ScoredKey = unsigned long long;

__device__ inline ScoredKey scored_key(float score, int64_t key) {
  const auto low = static_cast<uint32_t>(kMostKeys - key) << 1 |
                   static_cast<uint32_t>(__float_as_uint(score) == 0x80000000u);
  return static_cast<ScoredKey>(ordered(score)) << 32 | low;
}
__device__ inline int64_t key_of(ScoredKey scored) {
  return kMostKeys - static_cast<int64_t>(static_cast<uint32_t>(scored) >> 1);
}
__device__ inline float score_of(ScoredKey scored) {
  const float score = from_ordered(static_cast<uint32_t>(scored >> 32));
  return score == 0 && (scored & 1) != 0 ? -0.0f : score;
}

// The k-th largest of number(0), ..., number(n - 1), in every thread, 1 <= k <= n < 2^32; `number`
// is called several times. By all threads of a block, whole warps; numbers in shared memory must be
// there, and a barrier follows the last read of them.
template <class Int, class Number>
__device__ uint32_t kth_largest(Int n, Int k, Number number) {
  __shared__ unsigned counts[256];
  __shared__ uint32_t chosen;
  __shared__ unsigned chosen_rest;
  if (k == 1) {
    uint32_t largest = 0;
    for (Int i = threadIdx.x; i < n; i += blockDim.x) largest = max(largest, number(i));
    if (threadIdx.x == 0) chosen = 0;
    __syncthreads();
    largest = __reduce_max_sync(kAllLanes, largest);
    if (threadIdx.x % kWarp == 0) atomicMax(&chosen, largest);
    __syncthreads();
    largest = chosen;
    __syncthreads();
    return largest;
  }
  // Eight bits at a time, from the top: how many numbers that agree with those found have which.
  auto rest = static_cast<unsigned>(k);
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int d = threadIdx.x; d < 256; d += blockDim.x) counts[d] = 0;
    __syncthreads();
    for (Int i = threadIdx.x; i < n; i += blockDim.x) {
      const uint32_t bits = number(i);
      if ((bits & mask) == prefix) atomicAdd(&counts[bits >> shift & 255], 1u);
    }
    __syncthreads();
    // The first warp: each lane takes eight digits, the largest first.
    if (threadIdx.x < kWarp) {
      const int first = 255 - 8 * static_cast<int>(threadIdx.x);
      unsigned mine = 0;
      for (int d = 0; d < 8; ++d) mine += counts[first - d];
      unsigned before = mine;
      for (int delta = 1; delta < kWarp; delta *= 2) {
        const unsigned other = __shfl_up_sync(kAllLanes, before, delta);
        if (static_cast<int>(threadIdx.x) >= delta) before += other;
      }
      before -= mine;
      for (int d = 0; d < 8; ++d) {
        const unsigned count = counts[first - d];
        if (before < rest && rest <= before + count) {
          chosen = static_cast<uint32_t>(first - d);
          chosen_rest = rest - before;
        }
        before += count;
      }
    }
    __syncthreads();
    prefix |= chosen << shift;
    mask |= 0xffu << shift;
    rest = chosen_rest;
  }
  __syncthreads();
  return prefix;
}

// Sorts a power of two of numbers in shared memory, the largest first. By all threads of a block;
// the numbers must be there, and a barrier follows.
__device__ inline void sort_descending(ScoredKey* numbers, int n) {
  for (int run = 2; run <= n; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int p = threadIdx.x; p < n / 2; p += blockDim.x) {
        const int i = 2 * p - (p & (distance - 1));
        const ScoredKey a = numbers[i], b = numbers[i + distance];
        if ((a < b) == ((i & run) == 0)) {
          numbers[i] = b;
          numbers[i + distance] = a;
        }
      }
      __syncthreads();
    }
  }
}

FASTCLIP_HD inline int next_power_of_two(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

}  // namespace fastclip::cuda
