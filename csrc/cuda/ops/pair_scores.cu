// Scores of given pairs.
#include "cuda/arch/threads.cuh"
#include "cuda/engine/exact_score.cuh"
#include "cuda/ops.h"

namespace fastclip::cuda {
namespace {

__global__ void pair_scores_kernel(Matrix queries, Matrix keys, const int64_t* indices,
                                   int64_t per_query, float* out) {
  const int64_t pair = global_thread() / kLanes;
  if (pair >= queries.rows * per_query) return;
  const float score = exact_score(queries, pair / per_query, keys, indices[pair]);
  if (threadIdx.x % kLanes == 0) out[pair] = score;
}

}  // namespace

void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices,
                 int64_t per_query, float* out, Stream stream) {
  launch(pair_scores_kernel, blocks_for(queries.rows * per_query * kLanes), tuning::kThreads, 0,
         stream, queries, keys, indices, per_query, out);
}

}  // namespace fastclip::cuda
