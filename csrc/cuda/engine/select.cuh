// Selection and sorting by a block.
#pragma once

#include "cuda/arch/threads.cuh"
#include "cuda/engine/ordered_key.h"

namespace fastclip::cuda {

// The k-th largest of number(0), ..., number(n - 1), in every thread, 1 <= k <= n < 2^32; `number`
// is called several times. All threads of a block must call, in whole warps. Numbers in shared
// memory must be visible; a barrier follows their last use.
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
  // Radix selection, eight bits at a time from the top: counts the digits of the numbers with the
  // prefix found so far.
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
      unsigned before = inclusive_sum(mine) - mine;
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

// Sorts numbers in shared memory, the largest first (bitonic sort); n is a power of two. All
// threads of a block must call. The numbers must be visible; a barrier follows.
__device__ inline void sort_descending(OrderedKey* numbers, int n) {
  for (int run = 2; run <= n; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int p = threadIdx.x; p < n / 2; p += blockDim.x) {
        const int i = 2 * p - (p & (distance - 1));
        const OrderedKey a = numbers[i], b = numbers[i + distance];
        if ((a < b) == ((i & run) == 0)) {
          numbers[i] = b;
          numbers[i + distance] = a;
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace fastclip::cuda
