// The screen against thresholds that are known beforehand: one exact score per query.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <vector>

#include "screen.h"

namespace fastclip::cpu {

inline constexpr int64_t kFixedQueryBlock = 512;

// A block of queries with its thresholds.
class FixedScreen {
 public:
  FixedScreen(const Kernels& kernels, const Matrix& queries, const Matrix& keys,
              const ScreenKeys& screen, const float* scores)
      : kernels_(kernels),
        screen_(screen),
        coded_(kernels, queries, screen),
        scorer_(kernels, queries, keys),
        maybe_(queries.rows),
        sure_(queries.rows),
        query_counts_(queries.rows),
        key_counts_(kMaxPanels * kPanel),
        hits_(queries.rows * kMaxPanels * kPanel, Contents::kAnything),
        sorted_(queries.rows * kMaxPanels * kPanel, Contents::kAnything),
        places_(queries.rows + 1) {
    for (int64_t i = 0; i < queries.rows; ++i) {
      const ScreenThreshold threshold =
          screen_threshold(scores[i], coded_.offset[i], coded_.scale[i], coded_.gamma[i]);
      maybe_[i] = threshold.maybe;
      sure_[i] = threshold.sure;
    }
  }

  bool can_screen(double longest_key) const { return coded_.can_screen(longest_key); }
  // Pairs scored exactly so far.
  int64_t scored() const { return scored_; }

  // Finds the pairs of panels [first, last), at most kMaxPanels, that may reach their threshold.
  void run(int64_t first, int64_t last) { run(call(first, last)); }

  // The same, but pairs that surely pass their threshold are only counted.
  void count(int64_t first, int64_t last, bool per_key) {
    std::fill(query_counts_.begin(), query_counts_.end(), 0);
    std::fill(key_counts_.begin(), key_counts_.end(), 0);
    ScreenCall counting = call(first, last);
    counting.sure = sure_.data();
    counting.query_counts = query_counts_.data();
    counting.key_counts = per_key ? key_counts_.data() : nullptr;
    run(counting);
  }
  const std::vector<int32_t>& query_counts() const { return query_counts_; }
  const std::vector<int32_t>& key_counts() const { return key_counts_; }  // from key 32 first on

  // For each pair found, ordered by query, then key: take(i, key, sure) says whether its score is
  // wanted, and score(i, key, exact) is then told.
  template <class Take, class Score>
  void decide(Take&& take, Score&& score) {
    Pair batch[kBatch];
    float scores[kBatch];
    const Hit* hit = sorted_.get();
    for (const Hit* end = hit + found_; hit < end;) {
      int64_t count = 0;
      for (; hit < end && count < kBatch; ++hit) {
        const int64_t i = hit->query, key = first_key_ + hit->key;
        const bool sure = hit->x - (coded_.margin(i, screen_, key) - coded_.gamma[i]) >= sure_[i];
        if (take(i, key, sure)) batch[count++] = {i, key};
      }
      for (const Hit* next = hit; next < std::min(end, hit + kBatch); ++next) {
        scorer_.prefetch(first_key_ + next->key);
      }
      scorer_.score(batch, count, scores);
      for (int64_t c = 0; c < count; ++c) score(batch[c].query, batch[c].key, scores[c]);
      scored_ += count;
    }
  }

 private:
  ScreenCall call(int64_t first, int64_t last) {
    return {coded_.codes.data(),
            coded_.coefficients.data(),
            maybe_.data(),
            static_cast<int64_t>(maybe_.size()),
            &screen_,
            first,
            last,
            hits_.get()};
  }

  // The keys of one query are found in increasing order: putting the queries in order is enough.
  void run(const ScreenCall& call) {
    first_key_ = call.first * kPanel;
    found_ = kernels_.screen(call);
    std::fill(places_.begin(), places_.end(), 0);
    for (int64_t h = 0; h < found_; ++h) ++places_[hits_.get()[h].query + 1];
    std::partial_sum(places_.begin(), places_.end(), places_.begin());
    for (int64_t h = 0; h < found_; ++h) {
      const Hit& hit = hits_.get()[h];
      sorted_.get()[places_[hit.query]++] = hit;
    }
  }

  static constexpr int64_t kBatch = 16;  // pairs scored at a time

  const Kernels& kernels_;
  const ScreenKeys& screen_;
  const CodedQueries coded_;
  PairScorer scorer_;
  std::vector<float> maybe_, sure_;
  std::vector<int32_t> query_counts_, key_counts_;
  AlignedBuffer<Hit> hits_, sorted_;
  std::vector<int64_t> places_;  // of the first hit of each query
  int64_t found_ = 0;
  int64_t first_key_ = 0;
  int64_t scored_ = 0;
};

// What all searches against fixed thresholds do. make(first_query, rows) returns a task for a block
// of queries and a part of the keys, which then gets screened(FixedScreen&, first, last) for as
// long as screening is worth it and exact(scores, ld, first_key, count) for blocks of the rest.
// Returns how many pairs were scored exactly.
template <class Make>
int64_t search_fixed(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                     const ScreenKeys* screen, const float* scores, int threads,
                     Interrupt& interrupt, Make&& make) {
  threads = useful_threads(threads, queries.rows, keys.rows, keys.cols);
  if (isa.query_levels == 0) screen = nullptr;
  const double longest = screen != nullptr ? longest_key(*screen) : 0;
  std::atomic<int64_t> scored{0};
  const int64_t block = screen != nullptr ? kFixedQueryBlock : kMaxQueryBlock;
  const Plan plan(queries.rows, keys.rows, block, kMaxPanels * kPanel, threads);
  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t index) {
    const int64_t first_query = index / plan.key_parts * plan.query_block;
    const Matrix rows =
        queries.slice(first_query, std::min(first_query + plan.query_block, queries.rows));
    const int64_t first_key = index % plan.key_parts * plan.keys_per_part;
    const int64_t last_key = std::min(first_key + plan.keys_per_part, keys.rows);
    auto task = make(first_query, rows.rows);
    int64_t panel = first_key / kPanel;
    if (screen != nullptr) {
      FixedScreen fixed(isa, rows, keys, *screen, scores + first_query);
      if (fixed.can_screen(longest)) {
        panel = walk_panels(panel, ceil_div(last_key, kPanel), rows.rows, interrupt,
                            [&](int64_t first, int64_t last) {
                              task.screened(fixed, first, last);
                              return fixed.scored();
                            });
        scored += fixed.scored();
      }
    }
    const int64_t rest = std::min(panel * kPanel, last_key);
    scored += rows.rows * (last_key - rest);
    sweep(isa, rows, keys, rest, last_key, interrupt,
          [&](const float* block, int64_t ld, int64_t begin, int64_t count) {
            task.exact(block, ld, begin, count);
          });
  });
  return scored;
}

}  // namespace fastclip::cpu
