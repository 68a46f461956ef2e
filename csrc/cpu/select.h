// Selection and order of scores, by loops without branches that depend on them: compilers turn the
// counts into vector code, and a wrong guess costs as much as twenty comparisons.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <utility>

#include "fastclip/scored_key.h"

namespace fastclip::cpu {

// A float32 as a number that is larger where the float is; -0 is +0.
inline uint32_t ordered_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

inline float from_ordered_bits(uint32_t ordered) {
  return std::bit_cast<float>((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

inline int64_t count_at_least(const float* x, int64_t n, float floor) {
  constexpr int64_t kRun = 1 << 20;  // 32-bit sums fill the vectors better
  int64_t total = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    const int64_t end = std::min(n, begin + kRun);
    int32_t count = 0;
    for (int64_t i = begin; i < end; ++i) count += x[i] >= floor ? 1 : 0;
    total += count;
  }
  return total;
}

// The best of n numbers and `start`; better(a, b) is a < b or a > b. In lanes, since a compiler may
// not reorder the comparisons of one by itself.
template <class Better>
float extreme(const float* x, int64_t n, float start, Better better) {
  constexpr int64_t kSideBySide = 16;
  float lanes[kSideBySide];
  std::fill_n(lanes, kSideBySide, start);
  int64_t i = 0;
  for (; i + kSideBySide <= n; i += kSideBySide) {
    for (int64_t l = 0; l < kSideBySide; ++l) {
      lanes[l] = better(x[i + l], lanes[l]) ? x[i + l] : lanes[l];
    }
  }
  for (; i < n; ++i) start = better(x[i], start) ? x[i] : start;
  for (const float lane : lanes) start = better(lane, start) ? lane : start;
  return start;
}

// The k-th largest of n numbers, 1 <= k <= n; none may be NaN. Infinite ones are allowed.
//
// Halves the range of values that it can be among: by their middle, which is quick for scores that
// lie close to each other, and where that is slow by the middle of their representations.
inline float kth_largest(const float* x, int64_t n, int64_t k) {
  const float most = extreme(x, n, x[0], std::greater<>());
  if (k == 1) return most;
  const float least = extreme(x, n, x[0], std::less<>());
  constexpr int kByValue = 16;
  uint32_t low = ordered_bits(least), high = ordered_bits(most);  // it is from low to high
  for (int step = 0; low < high; ++step) {
    uint32_t middle = low + (high - low) / 2 + 1;
    if (step < kByValue) {
      const float value = 0.5f * from_ordered_bits(low) + 0.5f * from_ordered_bits(high);
      if (value - value == 0) middle = std::clamp(ordered_bits(value), low + 1, high);
    }
    const float pivot = from_ordered_bits(middle);
    const int64_t count = count_at_least(x, n, pivot);
    if (count == k) {
      return extreme(x, n, most, [&](float a, float b) { return (a >= pivot) & (a < b); });
    }
    if (count > k) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return from_ordered_bits(low);
}

// A score and its key as they are sorted.
struct SortedKey {
  uint32_t place;  // the smaller, the better the score
  float score;     // as it is: -0 and +0 have one place
  int64_t index;
};

inline SortedKey sorted_key(float score, int64_t index) {
  return {~ordered_bits(score), score, index};
}

// Sorts n keys, best first. `other` has room for as many.
inline void sort_keys(SortedKey* keys, SortedKey* other, int64_t n) {
  constexpr int64_t kFew = 64;
  constexpr int kDigits = 4, kValues = 256;
  if (n <= kFew) {
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
  // Equal scores stand in the order in which they came.
  for (int64_t begin = 0, end = 1; begin < n; begin = end++) {
    while (end < n && keys[end].place == keys[begin].place) ++end;
    if (end - begin == 1) continue;
    std::sort(keys + begin, keys + end,
              [](const SortedKey& a, const SortedKey& b) { return a.index < b.index; });
  }
}

}  // namespace fastclip::cpu
