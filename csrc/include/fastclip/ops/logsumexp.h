#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// out[i] = log sum_j exp(scale * score of query i and key j), from float32 scores.
struct LogSumExpCall {
  Matrix queries;
  Matrix keys;
  double scale;
  bool check_keys;  // on the CPU: whether the keys may not be finite
  Array<float> out;
};

// The same answer from keys that come in turn. `max` and `sum` [parts, queries] hold the LogSumExp
// states of each part of all `num_keys` keys; see cpu::value_blocks. Adds the keys from `begin` on,
// a multiple of a block, in their order.
struct LogSumExpAddCall {
  Matrix queries;
  Matrix keys;
  double scale;
  int64_t begin;
  int64_t num_keys;
  Table<float> max;
  Table<double> sum;
};

// Merges states one by one.
struct LogSumExpMergeCall {
  Table<float> max;
  Table<double> sum;
  Table<const float> other_max;
  Table<const double> other_sum;
  double scale;
};

// Merges the parts and takes the logarithm.
struct LogSumExpFinishCall {
  Table<const float> max;
  Table<const double> sum;
  double scale;
  Array<float> out;
};

namespace cpu {

// Returns the first row, counted through the queries and on through the keys if they are to be
// checked, that is not finite, or -1.
int64_t logsumexp(const LogSumExpCall& call, int threads, Interrupt& interrupt);
void logsumexp_add(const LogSumExpAddCall& call, int threads, Interrupt& interrupt);
void logsumexp_merge(const LogSumExpMergeCall& call, int threads, Interrupt& interrupt);
void logsumexp_finish(const LogSumExpFinishCall& call, int threads, Interrupt& interrupt);

// How the sums over `num_keys` keys in float32 are cut: blocks that are summed in float32, and
// parts of several blocks whose sums are merged in their order. The last of each may be shorter.
struct ValueBlocks {
  int64_t block, part, parts;
};
ValueBlocks value_blocks(int64_t num_keys, int64_t cols);

}  // namespace cpu

namespace cuda {
Room logsumexp_room(const LogSumExpCall& call, int64_t most);
void logsumexp(const LogSumExpCall& call, int64_t at_once, void* memory, Stream stream);
}  // namespace cuda

}  // namespace fastclip
