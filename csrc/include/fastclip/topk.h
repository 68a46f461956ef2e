// Reducer: the k best scores of each query. Order is score descending, then key index ascending.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
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

// A scored key as one number, the larger the better: numbers are sorted in half the time.
class RankedKey {
 public:
  RankedKey() = default;
  RankedKey(float score, int64_t index) {
    const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 equals +0
    const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    const bool negative_zero = score == 0 && std::signbit(score);  // no two keys come to this bit
    value_ = Wide{ordered} << 64 | (~static_cast<uint64_t>(index) << 1 | (negative_zero ? 1 : 0));
  }

  float score() const {
    if ((value_ & 1) != 0) return -0.0f;
    const auto ordered = static_cast<uint32_t>(value_ >> 64);
    return std::bit_cast<float>((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
  }
  int64_t index() const { return static_cast<int64_t>(~static_cast<uint64_t>(value_) >> 1); }
  friend bool ahead(RankedKey a, RankedKey b) { return a.value_ > b.value_; }

 private:
  __extension__ typedef unsigned __int128 Wide;
  Wide value_ = 0;
};

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
    RankedKey* entries = entries_.data() + query * capacity_;
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
    RankedKey* entries = entries_.data() + query * capacity_;
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
    RankedKey* entries = entries_.data() + query * capacity_;
    const int64_t count = std::min(k_, state.size);
    if (count < state.size) {
      std::nth_element(entries, entries + count - 1, entries + state.size, is_ahead);
    }
    std::sort(entries, entries + count, is_ahead);
    for (int64_t i = 0; i < count; ++i) {
      scores[i] = entries[i].score();
      indices[i] = entries[i].index();
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

  static bool is_ahead(RankedKey a, RankedKey b) { return ahead(a, b); }

  void select(State& state, RankedKey* entries) {
    std::nth_element(entries, entries + (k_ - 1), entries + state.size, is_ahead);
    state.size = k_;
    state.threshold = entries[k_ - 1].score();
    state.gated = true;
  }

  int64_t k_;
  int64_t capacity_;
  std::vector<RankedKey> entries_;
  std::vector<State> states_;
};

}  // namespace fastclip
