// Pairs that score above a threshold.
#include "cuda/engine/fixed_screen.cuh"
#include "fastclip/ops/pairs_above.h"

namespace fastclip::cuda {
namespace {

// Puts pairs that may pass into the list; with `later_only` those alone whose key is more than
// `shift` after the query.
struct PairEpilogue : FixedEpilogue {
  bool later_only;
  int64_t shift;

  PairEpilogue(const FixedEpilogue& fixed, bool later_only, int64_t shift)
      : FixedEpilogue(fixed), later_only(later_only), shift(shift) {}

  __device__ __forceinline__ void operator()(const int (&dots)[8][4], const Strip& strip,
                                             const Rows& rows, State& places) const {
    uint32_t maybe = reaching(dots, strip, rows);
    if (!__any_sync(kAllLanes, maybe != 0)) return;
    if (later_only) {
      for (uint32_t left = maybe; left != 0; left &= left - 1) {
        const int bit = __ffs(static_cast<int>(left)) - 1;
        if (key_of_bit(strip, bit) <= query_of_bit(strip, bit) + shift) maybe &= ~(1u << bit);
      }
      __syncwarp();
    }
    list.append(maybe, strip, places);
  }
};

struct Memory {
  Memory(Workspace& workspace, int64_t queries, int64_t width)
      : arrays(workspace, padded_queries(queries), width),
        thresholds(workspace.take<ScreenThreshold>(padded_queries(queries))) {}

  QueryArrays arrays;
  ScreenThreshold* thresholds;
};

__global__ void __launch_bounds__(kRescoreThreads, 2)
    list_scores_kernel(Matrix queries, Matrix keys, const OpenPair* pairs, int64_t count,
                       float* scores) {
  const int64_t i = int64_t{blockIdx.x} * kRescoreHalfWarps + threadIdx.x / kLanes;
  if (i >= count) return;
  const float score = exact_score(queries, pairs[i].query, keys, pairs[i].key);
  if (threadIdx.x % kLanes == 0) scores[i] = score;
}

}  // namespace

Room maybe_above_room(const MaybeAboveCall& call, int64_t) {
  Workspace workspace;
  Memory(workspace, call.queries.rows, width_of(call.screen));
  return {1, workspace.bytes()};
}

void maybe_above(const MaybeAboveCall& call, int64_t, void* memory, Stream stream) {
  const Matrix& queries = call.queries;
  const ScreenKeys& keys = *call.screen;
  auto* count = reinterpret_cast<unsigned*>(call.count.data);
  check_number_of_keys(call.keys);
  Workspace workspace(memory);
  const Memory parts(workspace, queries.rows, keys.width);
  bound_keys(keys, parts.arrays, stream);
  begin_fixed(queries, keys, call.thresholds.data, parts.arrays, parts.thresholds, stream);
  zero(count, sizeof(unsigned), stream);
  const MainloopParams params{parts.arrays.codes, padded_queries(queries.rows) / kQueryTile, keys,
                              call.first_key, call.last_key};
  const PairList list(reinterpret_cast<OpenPair*>(call.pairs.data), call.pairs.sizes[0], count);
  const FixedEpilogue fixed(parts.arrays.coefficients, parts.thresholds, list);
  screen(params, PairEpilogue(fixed, call.later_only, call.shift), stream);
}

void list_scores(const ListScoresCall& call, Stream stream) {
  const int64_t count = call.scores.count();
  launch(list_scores_kernel, static_cast<unsigned>(ceil_div<int64_t>(count, kRescoreHalfWarps)),
         kRescoreThreads, 0, stream, call.queries, call.keys,
         reinterpret_cast<const OpenPair*>(call.pairs.data), count, call.scores.data);
}

}  // namespace fastclip::cuda
