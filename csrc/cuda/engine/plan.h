// How searches are cut into blocks of queries and ranges of keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/tuning.h"
#include "fastclip/integers.h"
#include "fastclip/operation.h"

namespace fastclip::cuda {

constexpr int64_t padded_queries(int64_t count) { return round_up<int64_t>(count, kQueryTile); }

// So many keys that they and the queries are about max_pairs pairs.
constexpr int64_t keys_at_a_time(int64_t num_queries, int64_t num_keys, int64_t max_pairs) {
  const int64_t most = std::max<int64_t>(1, ceil_div<int64_t>(num_keys, kKeyAlignment));
  const int64_t wanted = max_pairs / padded_queries(num_queries) / kKeyAlignment;
  return std::clamp<int64_t>(wanted, 1, most) * kKeyAlignment;
}

// Of the codes of the keys, 0 without a screen.
inline int64_t width_of(const ScreenKeys* screen) { return screen == nullptr ? 0 : screen->width; }

// The kernels number keys in 32 bits.
inline void check_number_of_keys(const Matrix& keys) {
  if (keys.rows <= kMostKeys) return;
  throw std::invalid_argument("keys: at most " + std::to_string(kMostKeys) +
                              " can be searched at a time on a CUDA device, got " +
                              std::to_string(keys.rows));
}

// So many queries and keys at a time, with room for so many pairs that the screen leaves open.
struct FixedPlan {
  FixedPlan(int64_t num_queries, int64_t num_keys, int64_t at_once, const Tuning& limits = tuning())
      : queries(std::max<int64_t>(1, std::min(num_queries, at_once))),
        keys(keys_at_a_time(queries, num_keys, limits.search_pairs)),
        open(std::min(limits.search_open, queries * keys)) {}

  int64_t queries, keys, open;
};

}  // namespace fastclip::cuda
