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

// The k-th largest of n numbers, 1 <= k <= n; none may be NaN. Infinite ones are allowed. With
// `more`, a number that k to k + more of them reach will do, where one turns up first.
//
// Narrows the range of values that it can be among: by the place where it would be if they were
// spread evenly, in turns with the middle, and where that is slow with the middle of their
// representations. A few that are left are put in order.
inline float kth_largest(const float* x, int64_t n, int64_t k, int64_t more = 0) {
  const float most = extreme(x, n, x[0], std::greater<>());
  if (k == 1) return most;
  constexpr int kByValue = 16;
  constexpr int64_t kFew = 64;
  const int64_t few = std::min(n / 8, kFew);
  // It is from low to high; `reaching` numbers reach low, `above` are above high.
  uint32_t low = ordered_bits(extreme(x, n, x[0], std::less<>())), high = ordered_bits(most);
  int64_t reaching = n, above = 0;
  for (int step = 0; low < high; ++step) {
    const float least_left = from_ordered_bits(low), most_left = from_ordered_bits(high);
    if (reaching - above <= few) {
      const auto within = [=](float value) {
        return static_cast<int32_t>(value >= least_left) & static_cast<int32_t>(value <= most_left);
      };
      float left[kFew + 1] = {};
      int64_t count = 0;
      constexpr int64_t kTogether = 32;  // most have none
      for (int64_t begin = 0; begin < n; begin += kTogether) {
        const int64_t end = std::min(begin + kTogether, n);
        int32_t found = 0;
        for (int64_t i = begin; i < end; ++i) {
          found |= within(x[i]);
        }
        for (int64_t i = begin; found != 0 && i < end; ++i) {
          left[count] = x[i];
          count += within(x[i]);
        }
      }
      float* kth = left + (k - above - 1);
      std::nth_element(left, kth, left + count, std::greater<>());
      return *kth;
    }
    uint32_t middle = low + (high - low) / 2 + 1;
    if (step < kByValue) {
      const float share = step % 2 != 0
                              ? 0.5f
                              : (static_cast<float>(k - above) + 0.5f * static_cast<float>(more)) /
                                    static_cast<float>(reaching - above);
      const float value = share * least_left + (1.0f - share) * most_left;
      if (value - value == 0) middle = std::clamp(ordered_bits(value), low + 1, high);
    }
    const float pivot = from_ordered_bits(middle);
    const int64_t count = count_at_least(x, n, pivot);
    if (count >= k) {
      if (count - k < more) return pivot;
      low = middle;
      reaching = count;
    } else {
      high = middle - 1;
      above = count;
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
