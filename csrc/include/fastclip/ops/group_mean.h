#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// Adds each key to the sums of its group, in order of the keys.
struct GroupSumsCall {
  Matrix keys;
  Array<const int64_t> groups;
  Table<double> sums;  // [groups, cols]
};

// out = sums / counts, rounded; without counts, the sums themselves.
struct RoundMeansCall {
  Table<const double> sums;
  Array<const int64_t> counts;  // of the rows; may be null
  Table<float> out;
};

// means[g] = mean of the rows order[starts[g]] to order[starts[g + 1] - 1] of the keys, added in
// float64 in a fixed order; no group is empty.
struct GroupMeansCall {
  Matrix keys;
  Array<const int64_t> order;
  Array<const int64_t> starts;
  Table<float> means;
};

namespace cpu {
void group_sums(const GroupSumsCall& call, int threads, Interrupt& interrupt);
void round_means(const RoundMeansCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
void group_means(const GroupMeansCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
