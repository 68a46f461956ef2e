// Exact scores of some keys of each query.
#include "fastclip/ops/pair_scores.h"

#include "cpu/engine/screen.h"
#include "cpu/engine/threads.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {

void pair_scores(const PairScoresCall& call, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const int64_t per_query = call.indices.sizes[1];
  constexpr int64_t kQueries = tuning::kPairQueries, kPairs = tuning::kPairBatch;
  const Kernels& isa = kernels();
  parallel_for(ceil_div(queries.rows, kQueries), threads, interrupt, [&](int64_t task) {
    const int64_t first = task * kQueries;
    const int64_t last = std::min(first + kQueries, queries.rows);
    const PairScorer scorer(isa, queries.slice(first, last), keys);
    Pair pairs[kPairs];
    for (int64_t begin = first * per_query; begin < last * per_query; begin += kPairs) {
      if (interrupt.poll()) return;
      const int64_t count = std::min(kPairs, last * per_query - begin);
      for (int64_t p = 0; p < count; ++p) {
        pairs[p] = {(begin + p) / per_query - first, call.indices[begin + p]};
      }
      scorer.score(pairs, count, call.out.data + begin);
    }
  });
}

}  // namespace fastclip::cpu
