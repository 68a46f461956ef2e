#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// The best score and key of each group; every group has a key. On the CPU the screen is used where
// the groups of the keys never decrease.
struct GroupMaxCall {
  Matrix queries;
  Matrix keys;
  const ScreenKeys* screen;     // may be null
  Array<const int64_t> groups;  // of the keys
  Table<float> values;          // [queries, groups]
  Table<int64_t> indices;
  Scalar<int64_t> survivors;  // becomes how many pairs were scored exactly
};

namespace cpu {
void group_max(const GroupMaxCall& call, Screening screening, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
Room group_max_room(const GroupMaxCall& call, int64_t most);
void group_max(const GroupMaxCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
