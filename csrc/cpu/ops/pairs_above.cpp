// All pairs that score above a threshold.
#include "fastclip/ops/pairs_above.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <numeric>
#include <vector>

#include "cpu/engine/fixed_screen.h"
#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

// One block of queries and part of the keys: pairs in order of query, then key, once sorted.
struct PairTask {
  float threshold;
  bool later_only;
  int64_t first_query;
  int64_t queries;
  std::vector<ScoredPair>& found;

  bool counts(int64_t query, int64_t key) const { return !later_only || key > query; }

  void screened(FixedScreen& screen) {
    screen.find();
    screen.decide([&](int64_t i, int64_t key, bool) { return counts(first_query + i, key); },
                  [&](int64_t i, int64_t key, float score) {
                    if (score > threshold) found.push_back({first_query + i, key, score});
                  });
  }

  void exact(const float* scores, int64_t ld, int64_t first_key, int64_t count) {
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < count; ++j) {
        const float score = scores[i * ld + j];
        if (score > threshold && counts(first_query + i, first_key + j)) {
          found.push_back({first_query + i, first_key + j, score});
        }
      }
    }
  }
};

// Sorts all pairs by query, then key, in steps that can be interrupted: there may be billions.
std::vector<ScoredPair> in_order(std::deque<std::vector<ScoredPair>>& parts, int64_t queries,
                                 int threads, Interrupt& interrupt) {
  constexpr size_t kPairs = tuning::kPairsPerPoll;
  constexpr int64_t kQueries = tuning::kSortedQueries;
  std::vector<int64_t> places(queries + 1);  // where the next pair of each query goes
  for (const auto& part : parts) {
    for (size_t p = 0; p < part.size() && (p % kPairs != 0 || !interrupt.poll()); ++p) {
      ++places[part[p].query + 1];
    }
  }
  if (interrupt.stopped()) return {};
  std::partial_sum(places.begin(), places.end(), places.begin());
  std::vector<ScoredPair> pairs(places[queries]);
  for (auto& part : parts) {
    for (size_t p = 0; p < part.size() && (p % kPairs != 0 || !interrupt.poll()); ++p) {
      pairs[places[part[p].query]++] = part[p];
    }
    std::vector<ScoredPair>().swap(part);
  }
  // By now the place of each query is the end of its pairs.
  parallel_for(ceil_div(queries, kQueries), threads, interrupt, [&](int64_t task) {
    for (int64_t q = task * kQueries; q < std::min((task + 1) * kQueries, queries); ++q) {
      std::sort(pairs.begin() + (q == 0 ? 0 : places[q - 1]), pairs.begin() + places[q],
                [](const ScoredPair& a, const ScoredPair& b) { return a.key < b.key; });
    }
  });
  return pairs;
}

}  // namespace

std::vector<ScoredPair> pairs_above(const PairsAboveCall& call, Screening screening, int threads,
                                    Interrupt& interrupt) {
  std::mutex mutex;
  std::deque<std::vector<ScoredPair>> parts;  // elements keep their addresses
  const std::vector<float> scores(call.queries.rows, call.threshold);
  search_fixed(kernels(), call.queries, call.keys, call.screen, nullptr, scores.data(), screening,
               threads, interrupt, [&](int64_t first_query, int64_t rows) {
                 std::lock_guard lock(mutex);
                 return PairTask{call.threshold, call.later_only, first_query, rows,
                                 parts.emplace_back()};
               });
  return in_order(parts, call.queries.rows, threads, interrupt);
}

}  // namespace fastclip::cpu
