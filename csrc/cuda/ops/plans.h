// How topk and group_max go about their work.
#pragma once

#include "cuda/engine/plan.h"

namespace fastclip::cuda {

// So many queries at a time, with room for so many candidates each.
struct TopKPlan {
  // The limits are there to save memory; max_candidates must be a power of two, at least 256, and
  // at least k.
  constexpr TopKPlan(int64_t num_queries, int64_t k, int64_t max_queries, int64_t max_candidates)
      : k(k) {
    using Tuning = tuning::TopK;
    candidates =
        std::max(Tuning::kLeastCandidates, next_power_of_two(Tuning::kCandidatesOfBest * k));
    // Fewer phases where there is room for more candidates.
    while (candidates < Tuning::kMostCandidates &&
           2 * candidates * padded_queries(num_queries) <= Tuning::kEntries) {
      candidates *= 2;
    }
    candidates = std::min(candidates, max_candidates);
    queries = std::min(
        {num_queries, max_queries, Tuning::kMostQueries, Tuning::kMostEntries / candidates});
  }

  int64_t k, queries = 0, candidates = 0;
};

// As FixedPlan, for so many groups.
struct GroupPlan : FixedPlan {
  constexpr GroupPlan(int64_t num_queries, int64_t num_keys, int64_t num_groups,
                      int64_t max_queries, int64_t max_pairs, int64_t max_open)
      : FixedPlan(num_queries, num_keys,
                  std::min(max_queries, tuning::GroupMax::kMostEntries / num_groups), max_pairs,
                  max_open),
        groups(num_groups) {}

  int64_t groups;
};

}  // namespace fastclip::cuda
