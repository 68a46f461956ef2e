// Sorting of scored keys without branches that depend on the scores: a mispredicted branch costs as
// much as twenty comparisons.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cpu/tuning.h"
#include "fastclip/ordered.h"

namespace fastclip::cpu {

// A score and its key as they are sorted.
struct SortedKey {
  uint32_t place;  // the smaller, the better the score
  float score;     // as it is: -0 and +0 have one place
  int64_t index;
};

inline SortedKey sorted_key(float score, int64_t index) { return {~ordered(score), score, index}; }

// Sorts n keys, best first. `other` has room for as many.
inline void sort_keys(SortedKey* keys, SortedKey* other, int64_t n) {
  constexpr int kDigits = 4, kValues = 256;
  if (n <= tuning::kFewToCompare) {
    std::sort(keys, keys + n, [](const SortedKey& a, const SortedKey& b) {
      return a.place < b.place || (a.place == b.place && a.index < b.index);
    });
    return;
  }
  SortedKey* from = keys;
  SortedKey* to = other;
  int64_t counts[kDigits][kValues] = {};
  for (int64_t i = 0; i < n; ++i) {
    for (int d = 0; d < kDigits; ++d) ++counts[d][keys[i].place >> 8 * d & 0xff];
  }
  for (int d = 0; d < kDigits; ++d) {
    if (counts[d][from[0].place >> 8 * d & 0xff] == n) continue;  // all have this digit
    int64_t sum = 0;
    for (int64_t& count : counts[d]) sum += std::exchange(count, sum);
    for (int64_t i = 0; i < n; ++i) to[counts[d][from[i].place >> 8 * d & 0xff]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys) std::copy(from, from + n, keys);
  // Keys with equal scores are still in the order in which they came.
  for (int64_t begin = 0, end = 1; begin < n; begin = end++) {
    while (end < n && keys[end].place == keys[begin].place) ++end;
    if (end - begin == 1) continue;
    std::sort(keys + begin, keys + end,
              [](const SortedKey& a, const SortedKey& b) { return a.index < b.index; });
  }
}

}  // namespace fastclip::cpu
