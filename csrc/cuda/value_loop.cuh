// The loop that log-sum-exps of scores and of distances share: tiles of them, handed to a state per
// query while they are in registers.
//
// Keys are cut into parts that depend on their number alone, and what the parts gave is merged in
// their order: a query's bits do not depend on the other queries, nor on the device.
#pragma once

#include <algorithm>

#include "fastclip/logsumexp.h"
#include "value_tile.cuh"

namespace fastclip::cuda {

struct ValueParts {
  static constexpr int64_t kMaxParts = 128, kLeastKeys = 1024;

  explicit ValueParts(int64_t num_keys)
      : keys(ceil_div(std::max(kLeastKeys, ceil_div(num_keys, kMaxParts)),
                      int64_t{ValueTile::kColumns}) *
             ValueTile::kColumns),
        count(ceil_div(num_keys, keys)) {}

  int64_t keys, count;
};

// `finish(product, i, j)` makes a score of a product, `first_needed(i)` is the first key that
// counts for query i. Block (x, y) takes tile x of the queries and part y of the keys.
template <bool kDistance, class Scores>
__global__ void __launch_bounds__(ValueTile::kThreads, 1)
    log_sum_exp_parts(Matrix queries, Matrix keys, int64_t part_keys, double scale, Scores scores,
                      LogSumExp* states) {
  using T = ValueTile;
  constexpr int kThreadsPerRow = T::kColumns / T::kSide;
  __shared__ __align__(16) unsigned char memory[sizeof(T::Shared)];
  static_assert(sizeof(T::Shared) >= T::kRows * kThreadsPerRow * sizeof(LogSumExp));
  if (scores.nothing_to_do()) return;
  const int64_t first_query = int64_t{blockIdx.x} * T::kRows;
  const int64_t first_key = blockIdx.y * part_keys;
  const int64_t last_key = min(first_key + part_keys, keys.rows);
  LogSumExp state[T::kSide];
  for (int64_t begin = first_key; begin < last_key; begin += T::kColumns) {
    if (scores.first_needed(first_query) >= begin + T::kColumns) continue;
    float products[T::kSide][T::kSide];
    multiply<kDistance>(RowSide(queries, first_query), RowSide(keys, begin), queries.cols,
                        *reinterpret_cast<T::Shared*>(memory), products);
#pragma unroll
    for (int i = 0; i < T::kSide; ++i) {
      const int64_t query = min(first_query + T::row(i), queries.rows - 1);
      const int64_t first_needed = scores.first_needed(query);
      bool counts[T::kSide];
      bool any = false;
#pragma unroll
      for (int j = 0; j < T::kSide; ++j) {
        const int64_t key = begin + T::column(j);
        counts[j] = key < last_key && key >= first_needed;
        any |= counts[j];
        products[i][j] = scores.finish(products[i][j], query, min(key, last_key - 1));
      }
      const auto largest = [&](const float* score, int64_t) {
        float most = -std::numeric_limits<float>::infinity();
#pragma unroll
        for (int j = 0; j < T::kSide; ++j) {
          if (counts[j] && score[j] > most) most = score[j];
        }
        return most;
      };
      const auto sum_exp = [&](const float* score, int64_t, float factor, float shift) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < T::kSide; ++j) {
          sum += counts[j] ? expf(factor * (score[j] - shift)) : 0.0f;
        }
        return sum;
      };
      if (any) state[i].accumulate(products[i], T::kSide, scale, largest, sum_exp);
    }
  }
  __syncthreads();
  auto* all = reinterpret_cast<LogSumExp*>(memory);
#pragma unroll
  for (int i = 0; i < T::kSide; ++i) {
    all[T::row(i) * kThreadsPerRow + T::column(0) / 64 * 8 + T::column(0) % 64 / 4] = state[i];
  }
  __syncthreads();
  const int64_t query = first_query + threadIdx.x;
  if (threadIdx.x < T::kRows && query < queries.rows) {
    LogSumExp total;
    for (int i = 0; i < kThreadsPerRow; ++i) {
      total.merge(all[threadIdx.x * kThreadsPerRow + i], scale);
    }
    states[blockIdx.y * queries.rows + query] = total;
  }
}

// Merges the parts of each query, hands the result to `take(query, state)`.
template <class Take>
__global__ void merge_parts(const LogSumExp* states, int64_t queries, int64_t parts, double scale,
                            Take take) {
  const int64_t query = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (query >= queries) return;
  LogSumExp total;
  for (int64_t part = 0; part < parts; ++part) total.merge(states[part * queries + query], scale);
  take(query, total);
}

template <class Take>
void launch_merge(const LogSumExp* states, int64_t queries, int64_t parts, double scale, Take take,
                  cudaStream_t stream) {
  constexpr int kThreads = 128;
  launch(merge_parts<Take>, dim3(ceil_div<int64_t>(queries, kThreads)), dim3(kThreads), 0, stream,
         states, queries, parts, scale, take);
}

}  // namespace fastclip::cuda
