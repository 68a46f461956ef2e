// Reducer: the k best scores of each query. Order is score descending, then key index ascending.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fastclip {

struct ScoredKey {
  float score;
  int64_t index;
};

inline bool ahead(const ScoredKey& a, const ScoredKey& b) {
  return a.score > b.score || (a.score == b.score && a.index < b.index);
}

class TopK {
 public:
  // `keys` bounds how many keys one query will see; it only limits the memory.
  TopK(int64_t queries, int64_t keys, int64_t k)
      : k_(k),
        capacity_(capacity(keys, k)),
        entries_(static_cast<size_t>(queries * capacity_)),
        states_(static_cast<size_t>(queries)) {}

  // Entries held for each query: enough beyond k that a selection is paid for by many appends.
  static int64_t capacity(int64_t keys, int64_t k) { return std::min(keys, 2 * k + 64); }

  // Adds the scores of keys [first_key, first_key + count). Keys of one query must arrive in
  // increasing order: a later key then loses every tie, and strictly greater is the right gate.
  void accumulate(int64_t query, const float* scores, int64_t count, int64_t first_key) {
    State& state = states_[query];
    ScoredKey* entries = entries_.data() + query * capacity_;
    for (int64_t begin = 0; begin < count; begin += kChunk) {
      const int64_t end = std::min(count, begin + kChunk);
      if (state.gated) {
        bool any = false;
        for (int64_t i = begin; i < end; ++i) any |= scores[i] > state.threshold;
        if (!any) continue;
      }
      for (int64_t i = begin; i < end; ++i) {
        if (state.gated && !(scores[i] > state.threshold)) continue;
        if (state.size == capacity_) select(state, entries);
        if (state.gated && !(scores[i] > state.threshold)) continue;
        entries[state.size++] = {scores[i], first_key + i};
      }
    }
  }

  // Adds the best keys of the same query over other keys, in any order.
  void merge(int64_t query, const float* scores, const int64_t* indices, int64_t count) {
    State& state = states_[query];
    ScoredKey* entries = entries_.data() + query * capacity_;
    for (int64_t i = 0; i < count; ++i) {
      if (state.size == capacity_) select(state, entries);
      entries[state.size++] = {scores[i], indices[i]};
    }
  }

  // Reduces a query to its best k, so that threshold() is the k-th best score seen. False while
  // fewer than k have been seen.
  bool settle(int64_t query) {
    State& state = states_[query];
    if (state.size < k_) return false;
    if (state.size > k_ || !state.gated) select(state, entries_.data() + query * capacity_);
    return true;
  }
  float threshold(int64_t query) const { return states_[query].threshold; }

  // Writes the best min(k, keys seen) of a query in order and returns how many they are.
  int64_t finish(int64_t query, float* scores, int64_t* indices) {
    State& state = states_[query];
    ScoredKey* entries = entries_.data() + query * capacity_;
    const int64_t count = std::min(k_, state.size);
    std::partial_sort(entries, entries + count, entries + state.size, ahead);
    for (int64_t i = 0; i < count; ++i) {
      scores[i] = entries[i].score;
      indices[i] = entries[i].index;
    }
    return count;
  }

 private:
  static constexpr int64_t kChunk = 32;  // scores tested at once against the threshold

  struct State {
    int64_t size = 0;
    float threshold = 0;  // the k-th best score once `gated`
    bool gated = false;
  };

  void select(State& state, ScoredKey* entries) {
    std::nth_element(entries, entries + (k_ - 1), entries + state.size, ahead);
    state.size = k_;
    state.threshold = entries[k_ - 1].score;
    state.gated = true;
  }

  int64_t k_;
  int64_t capacity_;
  std::vector<ScoredKey> entries_;
  std::vector<State> states_;
};

}  // namespace fastclip
