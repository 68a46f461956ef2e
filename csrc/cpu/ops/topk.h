// Reducer: the k best scores of each query.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/engine/buffer.h"
#include "cpu/engine/sort_keys.h"
#include "cpu/isa/kernels.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {

class TopK {
 public:
  static constexpr int64_t kEntryBytes = sizeof(float) + sizeof(int64_t);

  // `keys` bounds how many keys one query will see; it only limits the memory.
  TopK(const Kernels& kernels, int64_t queries, int64_t keys, int64_t k)
      : kernels_(kernels),
        k_(k),
        capacity_(capacity(keys, k)),
        scores_(queries * capacity_, Contents::kAnything),
        indices_(queries * capacity_, Contents::kAnything),
        sorted_(2 * std::max(k, kFewToSort), Contents::kAnything),
        states_(queries) {}

  // Entries held for each query.
  static int64_t capacity(int64_t keys, int64_t k) {
    return round_up(std::min(keys, tuning::topk_entries(k)), kLanes);
  }

  // Adds the scores of keys [first_key, first_key + count), but for NaN. Keys of one query must
  // arrive in increasing order: a later key then loses every tie, and strictly greater is the right
  // gate.
  void accumulate(int64_t query, const float* scores, int64_t count, int64_t first_key) {
    State& state = states_.get()[query];
    for (int64_t begin = 0; begin < count; begin += kChunk) {
      const int64_t size = std::min(kChunk, count - begin);
      const float* chunk = scores + begin;
      if (state.gated && !any_above(chunk, size, state.threshold)) continue;
      if (state.size + size > capacity_) shrink(query);
      state.size += append(state, chunk, size, first_key + begin, query);
    }
  }

  // Adds the best keys of the same query over other keys, in any order.
  void merge(int64_t query, const float* scores, const int64_t* indices, int64_t count) {
    State& state = states_.get()[query];
    for (int64_t i = 0; i < count; ++i) {
      if (state.gated && scores[i] < state.threshold) continue;
      if (state.size == capacity_) shrink(query);
      scores_of(query)[state.size] = scores[i];
      indices_of(query)[state.size++] = indices[i];
    }
  }

  // Reduces a query to its best k, all of which reach threshold(). False while fewer than k have
  // been seen.
  bool settle(int64_t query) {
    State& state = states_.get()[query];
    if (state.size < k_) return false;
    if (state.size > k_) {
      select(query);
    } else if (!state.gated) {
      state.threshold = kernels_.kth_largest(scores_of(query), k_, k_, 0);
      state.gated = true;
    }
    return true;
  }
  float threshold(int64_t query) const { return states_.get()[query].threshold; }

  // Writes the best min(k, keys seen) of a query in order and returns how many they are.
  int64_t finish(int64_t query, float* scores, int64_t* indices) {
    State& state = states_.get()[query];
    if (state.size > std::max(k_, kFewToSort)) select(query);
    SortedKey* sorted = sorted_.get();
    for (int64_t i = 0; i < state.size; ++i) {
      sorted[i] = sorted_key(scores_of(query)[i], indices_of(query)[i]);
    }
    sort_keys(sorted, sorted + state.size, state.size);
    const int64_t count = std::min(state.size, k_);
    for (int64_t i = 0; i < count; ++i) {
      scores[i] = sorted[i].score;
      indices[i] = sorted[i].index;
    }
    return count;
  }

 private:
  static constexpr int64_t kChunk = tuning::kGateChunk;
  static constexpr int64_t kFewToSort = tuning::kFewToSort;

  struct State {
    int64_t size = 0;
    float threshold = 0;  // once `gated`, at least k entries reach it
    bool gated = false;
  };

  float* scores_of(int64_t query) const { return scores_.get() + query * capacity_; }
  int64_t* indices_of(int64_t query) const { return indices_.get() + query * capacity_; }

  static bool any_above(const float* x, int64_t n, float gate) {
    bool any = false;
    for (int64_t i = 0; i < n; ++i) any |= x[i] > gate;
    return any;
  }

  // Returns how many entries were added.
  int64_t append(const State& state, const float* x, int64_t n, int64_t first,
                 int64_t query) const {
    float* scores = scores_of(query) + state.size;
    int64_t* indices = indices_of(query) + state.size;
    int64_t to = 0;
    if (!state.gated) {
      for (int64_t i = 0; i < n; ++i) {
        scores[to] = x[i];
        indices[to] = first + i;
        to += std::isnan(x[i]) ? 0 : 1;
      }
      return to;
    }
    for (int64_t i = 0; i < n; ++i) {
      scores[to] = x[i];
      indices[to] = first + i;
      to += x[i] > state.threshold ? 1 : 0;
    }
    return to;
  }

  // Drops entries that are not among the best k, or only most of them where that is quicker.
  void shrink(int64_t query) {
    const int64_t more = tuning::topk_slack(k_);
    keep_best(query, more);
    if (states_.get()[query].size > k_ + more) select(query);  // ties
  }

  // Keeps the best k of at least k entries.
  void select(int64_t query) {
    keep_best(query, 0);
    State& state = states_.get()[query];
    if (state.size > k_) drop_ties(query);
  }

  // Keeps the best k to k + more of at least k entries, and others that tie with the last of them.
  void keep_best(int64_t query, int64_t more) {
    State& state = states_.get()[query];
    float* scores = scores_of(query);
    state.threshold = kernels_.kth_largest(scores, state.size, k_, more);
    state.size =
        kernels_.keep_at_least(state.threshold, state.size, scores, nullptr, indices_of(query));
    state.gated = true;
  }

  // Of the entries that tie for the k-th place, keeps those with the smallest indices.
  void drop_ties(int64_t query) {
    State& state = states_.get()[query];
    float* scores = scores_of(query);
    int64_t* indices = indices_of(query);
    std::vector<int64_t> ties;
    for (int64_t i = 0; i < state.size; ++i) {
      if (scores[i] == state.threshold) ties.push_back(indices[i]);
    }
    const auto better = state.size - static_cast<int64_t>(ties.size());
    const auto last = ties.begin() + (k_ - better - 1);
    std::nth_element(ties.begin(), last, ties.end());
    int64_t to = 0;
    for (int64_t i = 0; i < state.size; ++i) {
      const float score = scores[i];
      const int64_t index = indices[i];
      scores[to] = score;
      indices[to] = index;
      to += ((score > state.threshold) | (index <= *last)) ? 1 : 0;
    }
    state.size = to;
  }

  const Kernels& kernels_;
  int64_t k_;
  int64_t capacity_;
  AlignedBuffer<float> scores_;
  AlignedBuffer<int64_t> indices_;
  AlignedBuffer<SortedKey> sorted_;
  AlignedBuffer<State> states_;
};

}  // namespace fastclip::cpu
