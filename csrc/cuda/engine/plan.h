// How searches are cut into blocks of queries and ranges of keys.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/tuning.h"
#include "fastclip/integers.h"

namespace fastclip::cuda {

constexpr int64_t padded_queries(int64_t count) { return round_up<int64_t>(count, kQueryTile); }

// So many keys that they and the queries are about max_pairs pairs.
constexpr int64_t keys_at_a_time(int64_t num_queries, int64_t num_keys, int64_t max_pairs) {
  const int64_t most = std::max<int64_t>(1, ceil_div<int64_t>(num_keys, kKeyAlignment));
  const int64_t wanted = max_pairs / padded_queries(num_queries) / kKeyAlignment;
  return std::clamp<int64_t>(wanted, 1, most) * kKeyAlignment;
}

// How searches against known thresholds go about their work: so many queries and keys at a time,
// with room for so many pairs that the screen leaves open.
struct FixedPlan {
  // At most max_queries, and about max_pairs pairs of which max_open may be open, at a time.
  constexpr FixedPlan(int64_t num_queries, int64_t num_keys, int64_t max_queries, int64_t max_pairs,
                      int64_t max_open)
      : queries(std::max<int64_t>(1, std::min(num_queries, max_queries))),
        keys(keys_at_a_time(queries, num_keys, max_pairs)),
        open(std::min(max_open, queries * keys)) {}

  int64_t queries, keys, open;
};

// Bytes that a search works in; `width` is that of the codes of the keys, 0 without a screen.
int64_t fixed_workspace(const FixedPlan& plan, int64_t width);

}  // namespace fastclip::cuda
