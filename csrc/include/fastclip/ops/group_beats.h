#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// Bit g of bits[i], counted through its words of 64, becomes whether a key of group g is ahead of
// the threshold of query i, as in count_ahead.
struct GroupBeatsCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;     // may be null
  Array<const float> scores;    // of the thresholds
  Array<const int64_t> ties;    // of the thresholds
  Array<const int64_t> groups;  // of the keys
  Table<int64_t> bits;
  Scalar<int64_t> survivors;  // becomes how many pairs were scored exactly
};

namespace cpu {
void group_beats(const GroupBeatsCall& call, Screening screening, int threads,
                 Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
Room group_beats_room(const GroupBeatsCall& call, int64_t most);
void group_beats(const GroupBeatsCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
