#pragma once

#include <vector>

#include "fastclip/operation.h"

namespace fastclip {

// All pairs with a score above the threshold; with `later_only` those alone whose key has the
// higher index.
struct PairsAboveCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;  // may be null
  float threshold;
  bool later_only;
};

struct ScoredPair {
  int64_t query;
  int64_t key;
  float score;
};

// Lists (query, key) of all pairs with keys [first_key, last_key), fewer than 2^31, whose score may
// be above its query's threshold; with `later_only` those alone with key > query + shift.
struct MaybeAboveCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;
  int64_t first_key;  // a multiple of 256
  int64_t last_key;
  Array<const float> thresholds;
  bool later_only;
  int64_t shift;
  Table<int32_t> pairs;
  Scalar<int32_t> count;  // becomes how many there are: if more than fit, `pairs` are of no use
};

// Exact scores of the pairs of such a list.
struct ListScoresCall {
  Matrix queries;
  Matrix keys;
  Table<const int32_t> pairs;
  Array<float> scores;
};

namespace cpu {
// Ordered by query, then key.
std::vector<ScoredPair> pairs_above(const PairsAboveCall& call, Screening screening, int threads,
                                    Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
Room maybe_above_room(const MaybeAboveCall& call, int64_t most);  // for all queries in any case
void maybe_above(const MaybeAboveCall& call, int64_t at_once, void* memory, Stream stream);
void list_scores(const ListScoresCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
