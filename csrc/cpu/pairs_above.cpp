// All pairs that score above a threshold.
#include <algorithm>
#include <deque>
#include <mutex>
#include <vector>

#include "fixed_screen.h"
#include "isa.h"
#include "mainloop.h"
#include "ops.h"

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
    screen.run();
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

}  // namespace

std::vector<ScoredPair> pairs_above(const Matrix& queries, const Matrix& keys,
                                    const ScreenKeys* screen, float threshold, bool later_only,
                                    int threads, Interrupt& interrupt) {
  std::mutex mutex;
  std::deque<std::vector<ScoredPair>> parts;  // stays put while it grows
  const std::vector<float> scores(queries.rows, threshold);
  search_fixed(kernels(), queries, keys, screen, scores.data(), threads, interrupt,
               [&](int64_t first_query, int64_t rows) {
                 std::lock_guard lock(mutex);
                 return PairTask{threshold, later_only, first_query, rows, parts.emplace_back()};
               });
  std::vector<ScoredPair> pairs;
  for (std::vector<ScoredPair>& part : parts) {
    pairs.insert(pairs.end(), part.begin(), part.end());
    std::vector<ScoredPair>().swap(part);
  }
  std::sort(pairs.begin(), pairs.end(), [](const ScoredPair& a, const ScoredPair& b) {
    return a.query != b.query ? a.query < b.query : a.key < b.key;
  });
  return pairs;
}

}  // namespace fastclip::cpu
