#include "cuda/engine/split_rows.cuh"
#include "cuda/engine/value_loop.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/logsumexp.h"
#include "fastclip/ops/logsumexp.h"

namespace fastclip::cuda {
namespace {

struct SignedScores {
  float sign;
  Precision precision;
  bool for_enough;  // precision

  __device__ bool nothing_to_do() const { return precision.enough() != for_enough; }
  __device__ int64_t first_needed(int64_t) const { return 0; }
  __device__ float finish(float product, int64_t, int64_t) const { return sign * product; }
};

struct TakeLogarithm {
  double scale;
  float* out;

  __device__ void operator()(int64_t query, const LogSumExp& state) const {
    out[query] = static_cast<float>(state.finish(scale));
  }
};

struct Memory {
  Memory(void* workspace, const Matrix& queries, const Matrix& keys, int64_t at_once)
      : parts(keys.rows),
        with_low(!both_are_short(queries, keys)),
        parts_at_once(parts.within(tuned::ValueLoop::kSplitBytes /
                                   (SplitRows::padded(keys.cols) * (with_low ? 4 : 2)))),
        all(workspace),
        largest(all.take<float>(2)),
        split_queries(take_split_rows(all, at_once, keys.cols, with_low)),
        split_keys(take_split_rows(all, std::min(parts_at_once * parts.keys, keys.rows), keys.cols,
                                   with_low)),
        states(all.take<LogSumExp>(at_once * parts_at_once)),
        totals(all.take<LogSumExp>(at_once)) {}

  ValueParts parts;
  bool with_low;
  int64_t parts_at_once;
  Workspace all;
  float* largest;  // lengths
  SplitRows split_queries, split_keys;
  LogSumExp* states;  // [parts_at_once, queries]
  LogSumExp* totals;
};

void add_keys(const Matrix& queries, const Matrix& keys, double scale, SignedScores scores,
              const Memory& memory, Stream stream) {
  scores.for_enough = true;
  visit_split_tile(memory.split_queries, memory.split_keys, [&](const auto& tile) {
    launch_parts(tile, 0, memory.parts, scale, scores, memory.states, stream);
  });
  scores.for_enough = false;
  launch_parts(FloatTile<false>(queries, keys), 0, memory.parts, scale, scores, memory.states,
               stream);
}

}  // namespace

Room logsumexp_room(const LogSumExpCall& call, int64_t most) {
  const int64_t queries = rows_at_once(call.queries.rows, tuning().logsumexp_queries, most);
  return {queries, Memory(nullptr, call.queries, call.keys, queries).all.bytes()};
}

void logsumexp(const LogSumExpCall& call, int64_t at_once, void* workspace, Stream stream) {
  const auto &queries = call.queries, &keys = call.keys;
  const double scale = call.scale;
  Memory memory(workspace, queries, keys, at_once);
  // exp(scale * s) = exp(-scale * -s), and negating a score is exact.
  const double positive = std::abs(scale);
  const SignedScores scores{
      scale < 0 ? -1.0f : 1.0f, {lost_factor(positive, keys.cols), memory.largest}, true};
  zero(memory.largest, 2 * sizeof(float), stream);
  launch_largest_length(queries, memory.largest, stream);
  launch_largest_length(keys, memory.largest + 1, stream);
  const int64_t keys_at_once = memory.parts_at_once * memory.parts.keys;
  for (int64_t i = 0; i < queries.rows; i += at_once) {
    const Matrix some_queries = queries.slice(i, std::min(i + at_once, queries.rows));
    launch_split(some_queries, memory.split_queries, stream);
    for (int64_t j = 0; j < keys.rows; j += keys_at_once) {
      const Matrix some_keys = keys.slice(j, std::min(j + keys_at_once, keys.rows));
      launch_split(some_keys, memory.split_keys, stream);
      add_keys(some_queries, some_keys, positive, scores, memory, stream);
      launch_merge(memory.states, some_queries.rows, ceil_div(some_keys.rows, memory.parts.keys),
                   positive, j == 0, j + some_keys.rows == keys.rows, memory.totals,
                   TakeLogarithm{positive, call.out.data + i}, stream);
    }
  }
}

}  // namespace fastclip::cuda
