#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// out[i, c] = sum_j exp(-beta (1 - score of query i and key j)) values[j, c].
struct CacheLogitsCall {
  Matrix queries;
  Matrix keys;
  Matrix values;
  double beta;
  Table<float> out;  // null if there are totals
  // On the CPU, in place of `out`: the sums are added to these, in the order of the keys. Keys that
  // come in turn, each time from a multiple of ValueBlocks::block on, give the same sums.
  Table<double> totals;
};

namespace cpu {
void cache_logits(const CacheLogitsCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
Room cache_logits_room(const CacheLogitsCall& call, int64_t most);
void cache_logits(const CacheLogitsCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
