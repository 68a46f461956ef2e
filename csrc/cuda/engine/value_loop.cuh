// The loop that log-sum-exps of scores and of distances share: each tile is added to a state per
// query while it is in registers.
//
// The parts of the keys depend on the number of keys alone, and their states are merged in order: a
// query's bits depend neither on the other queries nor on the device.
#pragma once

#include <algorithm>

#include "cuda/arch/threads.cuh"
#include "cuda/arch/value_tile.cuh"
#include "cuda/tuning.h"
#include "fastclip/logsumexp.h"

namespace fastclip::cuda {

struct ValueParts : tuned::ValueLoop {
  explicit ValueParts(int64_t num_keys)
      : keys(ceil_div(std::clamp(ceil_div(num_keys, kEnoughParts), kLeastKeys, kMostKeys),
                      int64_t{ValueTile::kColumns}) *
             ValueTile::kColumns),
        count(ceil_div(num_keys, keys)) {}

  // How many parts have at most so many keys.
  int64_t within(int64_t most_keys) const {
    return std::clamp<int64_t>(most_keys / keys, 1, count);
  }

  int64_t keys, count;
};

// `scores.finish(product, i, j)` makes a score of a product, `scores.first_needed(i)` is the first
// key that counts for query i. Block (x, y) takes tile x of the queries and part y of the keys of
// `tile`, which are those from `first_key` on of all.
template <class Tile, class Scores>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    log_sum_exp_parts(Tile tile, int queries, int keys, int64_t first_key, int part_keys,
                      double scale, Scores scores, LogSumExp* states) {
  constexpr int kSide = Tile::kSide;
  constexpr int kThreadsPerRow = Tile::kColumns / kSide;
  using Shared = typename Tile::Shared;
  static_assert(sizeof(Shared) >= Tile::kRows * kThreadsPerRow * sizeof(LogSumExp));
  Shared& shared = *dynamic_shared<Shared>();
  if (scores.nothing_to_do()) return;
  const int first_query = static_cast<int>(blockIdx.x) * Tile::kRows;
  const int part = static_cast<int>(blockIdx.y) * part_keys;
  const int end = min(part + part_keys, keys);
  LogSumExp state[kSide];
  for (int begin = part; begin < end; begin += Tile::kColumns) {
    if (scores.first_needed(first_query) >= first_key + begin + Tile::kColumns) continue;
    float products[kSide][kSide];
    tile.multiply(first_query, begin, shared, products);
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      const int query = min(first_query + Tile::row(i), queries - 1);
      const int64_t first_needed = scores.first_needed(query);
      bool counts[kSide];
      bool any = false;
#pragma unroll
      for (int j = 0; j < kSide; ++j) {
        const int key = begin + Tile::column(j);
        counts[j] = key < end && first_key + key >= first_needed;
        any |= counts[j];
        products[i][j] = scores.finish(products[i][j], query, first_key + min(key, end - 1));
      }
      const auto largest = [&](const float* score, int64_t) {
        float most = -std::numeric_limits<float>::infinity();
#pragma unroll
        for (int j = 0; j < kSide; ++j) {
          if (counts[j] && score[j] > most) most = score[j];
        }
        return most;
      };
      const auto sum_exp = [&](const float* score, int64_t, float factor, float shift) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kSide; ++j) {
          sum += counts[j] ? expf(factor * (score[j] - shift)) : 0.0f;
        }
        return sum;
      };
      if (any) state[i].accumulate(products[i], kSide, scale, largest, sum_exp);
    }
  }
  __syncthreads();
  auto* all = reinterpret_cast<LogSumExp*>(&shared);
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    all[Tile::row(i) * kThreadsPerRow + Tile::thread_in_row()] = state[i];
  }
  __syncthreads();
  const int query = first_query + static_cast<int>(threadIdx.x);
  if (threadIdx.x < Tile::kRows && query < queries) {
    LogSumExp total;
    for (int i = 0; i < kThreadsPerRow; ++i) {
      total.merge(all[threadIdx.x * kThreadsPerRow + i], scale);
    }
    states[int64_t{blockIdx.y} * queries + query] = total;
  }
}

template <class Tile, class Scores>
void launch_parts(const Tile& tile, int64_t first_key, const ValueParts& parts, double scale,
                  const Scores& scores, LogSumExp* states, Stream stream) {
  launch(log_sum_exp_parts<Tile, Scores>,
         dim3(ceil_div<int64_t>(tile.row_count(), Tile::kRows),
              ceil_div(tile.column_count(), parts.keys)),
         dim3(Tile::kThreads), sizeof(typename Tile::Shared), stream, tile, tile.row_count(),
         tile.column_count(), first_key, parts.keys, scale, scores, states);
}

// Merges `parts` more parts into the totals of the queries; after the last ones, `take(query,
// total)` gets them.
template <class Take>
__global__ void merge_parts(const LogSumExp* states, int64_t queries, int64_t parts, double scale,
                            bool first, bool last, LogSumExp* totals, Take take) {
  const int64_t query = global_thread();
  if (query >= queries) return;
  LogSumExp total;
  if (!first) total = totals[query];
  for (int64_t part = 0; part < parts; ++part) total.merge(states[part * queries + query], scale);
  totals[query] = total;
  if (last) take(query, total);
}

template <class Take>
void launch_merge(const LogSumExp* states, int64_t queries, int64_t parts, double scale, bool first,
                  bool last, LogSumExp* totals, Take take, Stream stream) {
  constexpr int kThreads = tuned::ValueLoop::kMergeThreads;
  launch(merge_parts<Take>, dim3(ceil_div<int64_t>(queries, kThreads)), dim3(kThreads), 0, stream,
         states, queries, parts, scale, first, last, totals, take);
}

}  // namespace fastclip::cuda
