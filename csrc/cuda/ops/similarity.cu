// The matrix of exact scores: tiles of 32 queries by 32 keys. Half a warp computes 4 by 8 pairs, a
// thread being one of the 16 lanes of each.
#include "cuda/engine/exact_score.cuh"
#include "cuda/tuning.h"
#include "fastclip/ops/similarity.h"

namespace fastclip::cuda {
namespace {

using Tuned = tuned::Similarity;
constexpr int kTile = Tuned::kTile;
constexpr int kQueries = Tuned::kQueries;
constexpr int kKeys = Tuned::kKeys;
constexpr int kHalfWarps = kTile / kQueries * (kTile / kKeys);
constexpr int kThreads = kHalfWarps * kLanes;
constexpr int kColumns = Tuned::kColumns;
// The two halves of a warp read rows that are kKeys apart: in the other half of the banks.
constexpr int kPitch = kColumns + 2;
constexpr int kLoads = 2 * kTile * kColumns / kThreads;

// Adds up the lanes of every pair as exact_score.h says, each pair in another thread: that with
// lane l ends up with pairs 2 l and 2 l + 1 in its first two sums.
__device__ void fold(double (&sums)[kQueries * kKeys], int lane) {
  const unsigned half_warp = 0xffffu << (threadIdx.x % kWarp / kLanes * kLanes);
  int count = kQueries * kKeys;
#pragma unroll
  for (int half = 8; half > 0; half /= 2) {
    count /= 2;
    const bool upper = (lane & half) != 0;
#pragma unroll
    for (int p = 0; p < kQueries * kKeys / 2; ++p) {
      if (p >= count) continue;
      const double keep = upper ? sums[p + count] : sums[p];
      const double give = upper ? sums[p] : sums[p + count];
      sums[p] = keep + __shfl_xor_sync(half_warp, give, half);
    }
  }
}

__device__ float element_or_zero(const Matrix& m, int64_t row, int64_t col) {
  return row < m.rows && col < m.cols ? element(m, row, col) : 0;
}

__device__ void store(const MutableMatrix& out, int64_t row, int64_t col, float score) {
  char* to = out.row(row);
  switch (out.dtype) {
    case DType::kFloat32:
      reinterpret_cast<float*>(to)[col] = score;
      return;
    case DType::kFloat16:
      reinterpret_cast<uint16_t*>(to)[col] = float_to_half(score);
      return;
    case DType::kBFloat16:
      reinterpret_cast<uint16_t*>(to)[col] = float_to_bfloat16(score);
      return;
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    similarity_kernel(Matrix queries, Matrix keys, MutableMatrix out) {
  __shared__ float rows[2 * kTile * kPitch];  // queries, then keys
  const int64_t tiles = ceil_div<int64_t>(keys.rows, kTile);
  const int64_t first_query = blockIdx.x / tiles * kTile;
  const int64_t first_key = blockIdx.x % tiles * kTile;
  const int lane = threadIdx.x % kLanes;
  const int part = threadIdx.x / kLanes;
  const int query = part / (kTile / kKeys) * kQueries;
  const int key = part % (kTile / kKeys) * kKeys;

  float next[kLoads];
  const auto fetch = [&](int64_t begin) {
#pragma unroll
    for (int n = 0; n < kLoads; ++n) {
      const int at = n * kThreads + static_cast<int>(threadIdx.x);
      const int row = at / kColumns % kTile;
      const int64_t col = begin + at % kColumns;
      if (n < kLoads / 2) {
        next[n] = element_or_zero(queries, first_query + row, col);
      } else {
        next[n] = element_or_zero(keys, first_key + row, col);
      }
    }
  };

  double sums[kQueries * kKeys] = {};
  fetch(0);
  for (int64_t begin = 0; begin < keys.cols; begin += kColumns) {
    __syncthreads();
#pragma unroll
    for (int n = 0; n < kLoads; ++n) {
      const int at = n * kThreads + static_cast<int>(threadIdx.x);
      rows[at / kColumns * kPitch + at % kColumns] = next[n];
    }
    __syncthreads();
    if (begin + kColumns < keys.cols) fetch(begin + kColumns);
#pragma unroll 1
    for (int step = 0; step < kColumns; step += kLanes) {
      double k[kKeys];
#pragma unroll
      for (int b = 0; b < kKeys; ++b) k[b] = rows[(kTile + key + b) * kPitch + step + lane];
#pragma unroll
      for (int a = 0; a < kQueries; ++a) {
        const double q = rows[(query + a) * kPitch + step + lane];
#pragma unroll
        for (int b = 0; b < kKeys; ++b) sums[a * kKeys + b] = fma(q, k[b], sums[a * kKeys + b]);
      }
    }
  }

  fold(sums, lane);
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const int pair = 2 * lane + p;
    const int64_t i = first_query + query + pair / kKeys;
    const int64_t j = first_key + key + pair % kKeys;
    if (i < queries.rows && j < keys.rows) store(out, i, j, static_cast<float>(sums[p]));
  }
}

}  // namespace

void similarity(const SimilarityCall& call, Stream stream) {
  const auto &queries = call.queries, &keys = call.keys;
  const int64_t tiles =
      ceil_div<int64_t>(queries.rows, kTile) * ceil_div<int64_t>(keys.rows, kTile);
  launch(similarity_kernel, tiles, kThreads, 0, stream, queries, keys, call.out);
}

}  // namespace fastclip::cuda
