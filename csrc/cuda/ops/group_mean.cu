// Means of groups of keys.
#include "cuda/engine/exact_score.cuh"
#include "cuda/tuning.h"
#include "fastclip/ops/group_mean.h"

namespace fastclip::cuda {
namespace {

constexpr int kColumns = tuned::GroupMean::kColumns, kRows = tuned::GroupMean::kRows;

// One block for a group and kColumns columns, in a flat grid: only its first side may be long.
// Thread (c, r) adds every kRows-th row from r on.
__global__ void group_means_kernel(Matrix keys, const int64_t* order, const int64_t* starts,
                                   float* means) {
  __shared__ double sums[kRows][kColumns];
  const int64_t tiles = ceil_div<int64_t>(keys.cols, kColumns);
  const int64_t group = blockIdx.x / tiles;
  const int64_t column = blockIdx.x % tiles * kColumns + threadIdx.x;
  const int64_t first = starts[group], last = starts[group + 1];
  double sum = 0;
  if (column < keys.cols) {
    for (int64_t i = first + threadIdx.y; i < last; i += kRows) {
      sum += element(keys, order[i], column);
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= keys.cols) return;
  for (int r = 1; r < kRows; ++r) sum += sums[r][threadIdx.x];
  means[group * keys.cols + column] = static_cast<float>(sum / static_cast<double>(last - first));
}

}  // namespace

void group_means(const GroupMeansCall& call, Stream stream) {
  const int64_t groups = call.means.sizes[0];
  launch(group_means_kernel, dim3(groups * ceil_div<int64_t>(call.keys.cols, kColumns)),
         dim3(kColumns, kRows), 0, stream, call.keys, call.order.data, call.starts.data,
         call.means.data);
}

}  // namespace fastclip::cuda
