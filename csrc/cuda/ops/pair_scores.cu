// Scores of given pairs.
#include "cuda/arch/threads.cuh"
#include "cuda/engine/exact_score.cuh"
#include "cuda/tuning.h"
#include "fastclip/ops/pair_scores.h"

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

void pair_scores(const PairScoresCall& call, Stream stream) {
  launch(pair_scores_kernel, blocks_for(call.indices.count() * kLanes), tuned::kThreads, 0, stream,
         call.queries, call.keys, call.indices.data, call.indices.sizes[1], call.out.data);
}

}  // namespace fastclip::cuda
