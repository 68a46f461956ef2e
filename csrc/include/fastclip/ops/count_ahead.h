#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// A key is ahead of a query's threshold with a higher score, or with an equal one and an index
// below the query's tie. Counts the keys ahead of each threshold, or the thresholds that each key
// is ahead of; either array may be left out.
struct CountAheadCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;      // may be null
  Array<const uint8_t> allowed;  // the keys that count; null: all, as it must be on devices
  Array<const float> scores;     // of the thresholds
  Array<const int64_t> ties;     // of the thresholds
  Array<int64_t> per_query;      // may be null
  Array<int64_t> per_key;        // may be null
  Scalar<int64_t> survivors;     // becomes how many pairs were scored exactly
};

namespace cpu {
void count_ahead(const CountAheadCall& call, Screening screening, int threads,
                 Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
Room count_ahead_room(const CountAheadCall& call, int64_t most);
void count_ahead(const CountAheadCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
