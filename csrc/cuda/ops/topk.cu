// The k best keys of each query.
#include "cuda/engine/encode_queries.h"
#include "cuda/ops/plans.h"
#include "cuda/ops/topk_state.cuh"
#include "cuda/tuning.h"
#include "fastclip/ops/topk.h"

namespace fastclip::cuda {
namespace {

struct Memory {
  Memory(Workspace& workspace, const TopKPlan& plan, int64_t width)
      : arrays(workspace, padded_queries(plan.queries), width),
        state(workspace, padded_queries(plan.queries), plan.candidates) {}

  QueryArrays arrays;
  TopKState state;
};

TopKPlan plan_of(const TopKCall& call, int64_t at_once) {
  return {call.queries.rows, call.values.sizes[1], at_once};
}

}  // namespace

Room topk_room(const TopKCall& call, int64_t most) {
  const TopKPlan plan = plan_of(call, std::min(most, tuning().topk_queries));
  Workspace workspace;
  Memory(workspace, plan, width_of(call.screen));
  return {plan.queries, workspace.bytes()};
}

void topk(const TopKCall& call, int64_t at_once, void* memory, Stream stream) {
  const auto &queries = call.queries, &keys = call.keys;
  const ScreenKeys* screen = call.screen;
  int64_t* scored = call.survivors.data;
  check_number_of_keys(keys);
  const TopKPlan plan = plan_of(call, at_once);
  zero(scored, sizeof(int64_t), stream);
  if (queries.rows == 0) return;
  Workspace workspace(memory);
  Memory parts(workspace, plan, width_of(screen));
  TopKState& state = parts.state;
  state.k = static_cast<int>(plan.k);
  if (screen != nullptr) {
    state.keys = *screen;
    bound_keys(*screen, parts.arrays, stream);
  }
  for (int64_t first = 0; first < queries.rows; first += plan.queries) {
    const TopKOutput out{queries.slice(first, std::min(first + plan.queries, queries.rows)), keys,
                         call.values.data + first * plan.k, call.indices.data + first * plan.k,
                         scored};
    if (screen != nullptr) {
      screened_topk(state, out, parts.arrays, stream);
    } else {
      exact_topk(state, out, true, stream);
    }
  }
}

}  // namespace fastclip::cuda
