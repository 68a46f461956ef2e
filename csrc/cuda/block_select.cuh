// Selection among numbers that a block of threads computes.
#pragma once

#include "order.cuh"

namespace fastclip::cuda {

// The k-th largest of value(0), ..., value(count - 1), 1 <= k <= count, none of them NaN; `value`
// is called several times. All kThreads threads must call, and get the result.
template <int kThreads, class Value>
__device__ float block_kth_largest(int64_t count, int64_t k, Value value) {
  static_assert(kThreads % kWarp == 0);
  __shared__ uint32_t best;
  constexpr int kBins = 256;
  __shared__ int64_t bins[kBins];
  if (k == 1) {
    uint32_t largest = 0;
    for (int64_t i = threadIdx.x; i < count; i += kThreads) {
      largest = max(largest, ordered(value(i)));
    }
    __syncthreads();  // an earlier call may still read
    if (threadIdx.x == 0) best = 0;
    __syncthreads();
    largest = __reduce_max_sync(kAllLanes, largest);
    if (threadIdx.x % kWarp == 0) atomicMax(&best, largest);
    __syncthreads();
    return from_ordered(best);
  }
  // Eight bits at a time, from the top: counts of the numbers that agree with the bits found so
  // far.
  uint32_t found = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (int b = threadIdx.x; b < kBins; b += kThreads) bins[b] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count; i += kThreads) {
      const uint32_t bits = ordered(value(i));
      if (shift == 24 || (bits ^ found) >> (shift + 8) == 0) {
        atomicAdd(reinterpret_cast<unsigned long long*>(&bins[bits >> shift & 0xff]), 1ull);
      }
    }
    __syncthreads();
    int bin = kBins - 1;
    for (; bins[bin] < k; --bin) k -= bins[bin];
    found |= static_cast<uint32_t>(bin) << shift;
  }
  return from_ordered(found);
}

}  // namespace fastclip::cuda
