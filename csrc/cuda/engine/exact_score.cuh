// Exact scores (exact_score.h) of single pairs, each by half a warp: a thread is one of the 16
// lanes.
#pragma once

#include "cuda/arch/device.h"
#include "fastclip/element.h"
#include "fastclip/exact_score.h"

namespace fastclip::cuda {

template <DType type>
FASTCLIP_HD float load(const char* row, int64_t col) {
  if constexpr (type == DType::kFloat32) return reinterpret_cast<const float*>(row)[col];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(row)[col];
  return type == DType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

// Sum of every 16th product, from `lane` on.
template <DType query_type, DType key_type>
__device__ double lane_sum(const char* query, const char* key, int64_t cols, int lane) {
  double sum = 0;
#pragma unroll 8
  for (int64_t j = lane; j < cols; j += kLanes) {
    sum = fma(static_cast<double>(load<query_type>(query, j)),
              static_cast<double>(load<key_type>(key, j)), sum);
  }
  return sum;
}

template <DType query_type>
__device__ double lane_sum(const char* query, const char* key, DType key_type, int64_t cols,
                           int lane) {
  switch (key_type) {
    case DType::kFloat32:
      return lane_sum<query_type, DType::kFloat32>(query, key, cols, lane);
    case DType::kFloat16:
      return lane_sum<query_type, DType::kFloat16>(query, key, cols, lane);
    case DType::kBFloat16:
      return lane_sum<query_type, DType::kBFloat16>(query, key, cols, lane);
  }
  return 0;
}

// Returns the score of query i and key j to each thread of an aligned half-warp; all 16 must call.
__device__ inline float exact_score(const Matrix& queries, int64_t i, const Matrix& keys,
                                    int64_t j) {
  const int lane = threadIdx.x % kLanes;
  const char* query = queries.row(i);
  const char* key = keys.row(j);
  double sum = 0;
  switch (queries.dtype) {
    case DType::kFloat32:
      sum = lane_sum<DType::kFloat32>(query, key, keys.dtype, keys.cols, lane);
      break;
    case DType::kFloat16:
      sum = lane_sum<DType::kFloat16>(query, key, keys.dtype, keys.cols, lane);
      break;
    case DType::kBFloat16:
      sum = lane_sum<DType::kBFloat16>(query, key, keys.dtype, keys.cols, lane);
      break;
  }
  const unsigned half_warp = 0xffffu << (threadIdx.x % kWarp / kLanes * kLanes);
  // Both sides of an exchange add the same two numbers.
  for (int half = 8; half > 0; half /= 2) sum += __shfl_xor_sync(half_warp, sum, half);
  return static_cast<float>(sum);
}

}  // namespace fastclip::cuda
