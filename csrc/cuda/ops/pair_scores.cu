// Scores of given pairs.
#include "cuda/engine/exact_score.cuh"
#include "cuda/ops.h"

namespace fastclip::cuda {
namespace {

constexpr int kThreads = tuning::kThreads;

__global__ void pair_scores_kernel(Matrix queries, Matrix keys, const int64_t* indices,
                                   int64_t per_query, float* out) {
  const int64_t pair = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  if (pair >= queries.rows * per_query) return;
  const float score = exact_score(queries, pair / per_query, keys, indices[pair]);
  if (threadIdx.x % kLanes == 0) out[pair] = score;
}

}  // namespace

void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices,
                 int64_t per_query, float* out, Stream stream) {
  const int64_t blocks = ceil_div(queries.rows * per_query * kLanes, int64_t{kThreads});
  launch(pair_scores_kernel, blocks, kThreads, 0, stream, queries, keys, indices, per_query, out);
}

}  // namespace fastclip::cuda
