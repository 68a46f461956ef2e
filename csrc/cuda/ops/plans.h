// How topk and group_max are cut into blocks.
#pragma once

#include "cuda/engine/plan.h"

namespace fastclip::cuda {

// So many queries at a time, with room for so many candidates each.
struct TopKPlan {
  TopKPlan(int64_t num_queries, int64_t k, int64_t at_once, const Tuning& limits = tuning())
      : k(k) {
    using Tuned = tuned::TopK;
    candidates = std::max(Tuned::kLeastCandidates, next_power_of_two(Tuned::kCandidatesOfBest * k));
    // Fewer phases where there is room for more candidates.
    while (candidates < Tuned::kMostCandidates &&
           2 * candidates * padded_queries(num_queries) <= Tuned::kEntries) {
      candidates *= 2;
    }
    candidates = std::min(candidates, limits.topk_candidates);
    queries = std::max<int64_t>(
        1, std::min({num_queries, at_once, Tuned::kMostQueries, Tuned::kMostEntries / candidates}));
  }

  int64_t k, queries, candidates;
};

// As FixedPlan, for so many groups.
struct GroupPlan : FixedPlan {
  GroupPlan(int64_t num_queries, int64_t num_keys, int64_t num_groups, int64_t at_once,
            const Tuning& limits = tuning())
      : FixedPlan(num_queries, num_keys,
                  std::min(at_once, tuned::GroupMax::kMostEntries / num_groups), limits),
        groups(num_groups) {}

  int64_t groups;
};

}  // namespace fastclip::cuda
