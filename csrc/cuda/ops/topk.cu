// The k best keys of each query.
#include "cuda/engine/encode_queries.h"
#include "cuda/ops.h"
#include "cuda/ops/topk_state.cuh"

namespace fastclip::cuda {
namespace {

struct Memory {
  Memory(Workspace& workspace, const TopKPlan& plan, int64_t width)
      : arrays(workspace, padded_queries(plan.queries), width),
        state(workspace, padded_queries(plan.queries), plan.candidates) {}

  QueryArrays arrays;
  TopKState state;
};

}  // namespace

int64_t topk_workspace(const TopKPlan& plan, int64_t width) {
  Workspace workspace;
  Memory(workspace, plan, width);
  return workspace.bytes();
}

void topk(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, const TopKPlan& plan,
          float* values, int64_t* indices, int64_t* scored, void* memory, Stream stream) {
  zero(scored, sizeof(int64_t), stream);
  if (queries.rows == 0) return;
  Workspace workspace(memory);
  Memory parts(workspace, plan, screen != nullptr ? screen->width : 0);
  TopKState& state = parts.state;
  state.k = static_cast<int>(plan.k);
  if (screen != nullptr) {
    state.keys = *screen;
    bound_keys(*screen, parts.arrays, stream);
  }
  for (int64_t first = 0; first < queries.rows; first += plan.queries) {
    const TopKOutput out{queries.slice(first, std::min(first + plan.queries, queries.rows)), keys,
                         values + first * plan.k, indices + first * plan.k, scored};
    if (screen != nullptr) {
      screened_topk(state, out, parts.arrays, stream);
    } else {
      exact_topk(state, out, true, stream);
    }
  }
}

}  // namespace fastclip::cuda
