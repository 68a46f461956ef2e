#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// The k best keys of each query, best first, k being the width of the results: no more than there
// are keys that count.
struct TopKCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;      // may be null
  Array<const uint8_t> allowed;  // the keys that count; null: all, as it must be on devices
  Table<float> values;
  Table<int64_t> indices;
  Scalar<int64_t> survivors;  // becomes how many pairs were scored exactly
};

namespace cpu {

// Returns the first row, counted through the queries and on through the keys if these are not
// packed, that is not finite, or -1.
int64_t topk(const TopKCall& call, Screening screening, int threads, Interrupt& interrupt);

// Whether topk looks at the codes of packed keys. With few keys float32 drops more of them in the
// time that the codes of the queries take; very few queries are bound by memory, of which the codes
// need less.
bool worth_codes(int64_t queries, int64_t keys, int64_t k);

}  // namespace cpu

namespace cuda {

inline constexpr int64_t kMostBest = 1024;  // the largest k

Room topk_room(const TopKCall& call, int64_t most);
void topk(const TopKCall& call, int64_t at_once, void* memory, Stream stream);

}  // namespace cuda

}  // namespace fastclip
