// Searches against thresholds that are known in advance: one exact score per query.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cpu/engine/screen.h"
#include "cpu/tuning.h"
#include "fastclip/view.h"

namespace fastclip::cpu {

// What a key must pass: a higher score, or an equal one with an index below `tie`.
struct Threshold {
  float score;
  int64_t tie;

  bool passed(float other, int64_t key) const {
    return other > score || (other == score && key < tie);
  }
};

inline std::vector<Threshold> join_thresholds(const Array<const float>& scores,
                                              const Array<const int64_t>& ties) {
  std::vector<Threshold> thresholds(scores.count());
  for (int64_t i = 0; i < scores.count(); ++i) thresholds[i] = {scores[i], ties[i]};
  return thresholds;
}

// A block of queries with its thresholds.
class FixedScreen {
 public:
  FixedScreen(BlockScreen& block, const float* scores)
      : block_(block),
        maybe_(block.num_queries()),
        sure_(block.num_queries()),
        query_counts_(block.num_queries()),
        key_counts_(kMaxPanelKeys),
        hits_(block.num_queries() * kMaxPanelKeys, Contents::kAnything),
        sorted_(block.num_queries() * kMaxPanelKeys, Contents::kAnything),
        places_(block.num_queries() + 1) {
    for (int64_t i = 0; i < block.num_queries(); ++i) {
      const ScreenThreshold threshold = block.threshold(i, scores[i]);
      maybe_[i] = threshold.maybe;
      sure_[i] = threshold.sure;
    }
  }

  // Pairs scored exactly so far.
  int64_t scored() const { return scored_; }
  int64_t first_key() const { return block_.first_key(); }
  int64_t num_keys() const { return block_.num_keys(); }

  // Finds the pairs of the block's panels that may reach their threshold.
  void find() { sort(block_.find_hits({maybe_.data(), hits_.get()})); }

  // The same, but pairs that surely pass their threshold are only counted.
  void count(bool per_key) {
    std::fill(query_counts_.begin(), query_counts_.end(), 0);
    std::fill(key_counts_.begin(), key_counts_.end(), 0);
    sort(block_.count_sure({{maybe_.data(), hits_.get()},
                            sure_.data(),
                            query_counts_.data(),
                            per_key ? key_counts_.data() : nullptr}));
  }
  const std::vector<int32_t>& query_counts() const { return query_counts_; }
  const std::vector<int32_t>& key_counts() const { return key_counts_; }  // from first_key() on

  // Calls take(i, key, sure) for each pair found, ordered by query, then key. Where it returns true
  // the pair is rescored, and score(i, key, exact) receives the exact score.
  template <class Take, class Score>
  void decide(Take&& take, Score&& score) {
    Pair batch[kBatch];
    float scores[kBatch];
    const Hit* hit = sorted_.get();
    for (const Hit* end = hit + found_; hit < end;) {
      int64_t count = 0;
      for (; hit < end && count < kBatch; ++hit) {
        const int64_t i = hit->query, key = block_.first_key() + hit->key;
        const bool sure = hit->x - block_.margin(i, hit->key) >= sure_[i];
        if (take(i, key, sure)) batch[count++] = {i, key};
      }
      for (const Hit* next = hit; next < std::min(end, hit + kBatch); ++next) {
        block_.scorer().prefetch(block_.first_key() + next->key);
      }
      block_.scorer().score(batch, count, scores);
      for (int64_t c = 0; c < count; ++c) score(batch[c].query, batch[c].key, scores[c]);
      scored_ += count;
    }
  }

 private:
  // The keys of one query are found in increasing order: putting the queries in order is enough.
  void sort(int64_t found) {
    found_ = found;
    std::fill(places_.begin(), places_.end(), 0);
    for (int64_t h = 0; h < found_; ++h) ++places_[hits_.get()[h].query + 1];
    std::partial_sum(places_.begin(), places_.end(), places_.begin());
    for (int64_t h = 0; h < found_; ++h) {
      const Hit& hit = hits_.get()[h];
      sorted_.get()[places_[hit.query]++] = hit;
    }
  }

  static constexpr int64_t kBatch = tuning::kFixedBatch;

  BlockScreen& block_;
  std::vector<float> maybe_, sure_;
  std::vector<int32_t> query_counts_, key_counts_;
  AlignedBuffer<Hit> hits_, sorted_;
  std::vector<int64_t> places_;  // of the first hit of each query
  int64_t found_ = 0;
  int64_t scored_ = 0;
};

// The search that all questions with fixed thresholds share. make(first_query, rows) returns a task
// for a block of queries and a part of the keys. Its screened(FixedScreen&) is called as long as
// screening pays, then its exact(scores, ld, first_key, count) for blocks of the remaining keys.
// Keys that are not `allowed`, which may be null, pass no threshold. Returns how many pairs were
// scored exactly.
template <class Make>
int64_t search_fixed(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                     const ScreenKeys* codes, const uint8_t* allowed, const float* scores,
                     Screening screening, int threads, Interrupt& interrupt, Make&& make) {
  threads = useful_threads(threads, queries.rows, keys.rows, keys.cols);
  const Plan plan(queries.rows, keys.rows, tuning::kFixedQueryBlock, tuning::kScreenedPartKeys,
                  tuning::kScreenedPartKeys, threads);
  const Screens screens =
      screens_for(isa, codes, std::min(plan.query_block, queries.rows), screening);
  std::atomic<int64_t> scored{0};
  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t index) {
    const PlanTask part = plan.task(index);
    const Matrix rows = queries.slice(part.first_query, part.last_query);
    auto task = make(part.first_query, rows.rows);

    struct Search {
      FixedScreen fixed;
      decltype(task)& of;

      int64_t allowance() const { return tuning::kFewSurvivors; }
      int64_t screen() {
        of.screened(fixed);
        return fixed.scored();
      }
      int64_t finish() const { return fixed.scored(); }
    };
    scored += search_keys(
        isa, rows, keys, part.first_key, part.last_key, screens, allowed, interrupt,
        [&](BlockScreen& block) {
          return Search{FixedScreen(block, scores + part.first_query), task};
        },
        [&](const float* block, int64_t ld, int64_t begin, int64_t count) {
          task.exact(block, ld, begin, count);
        });
  });
  return scored;
}

}  // namespace fastclip::cpu
