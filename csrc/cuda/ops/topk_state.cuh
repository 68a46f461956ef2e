// What topk_screened.cu and topk_exact.cu share.
#pragma once

#include "cuda/engine/encode_queries.h"
#include "cuda/engine/ordered_key.h"
#include "cuda/engine/screen.cuh"
#include "fastclip/matrix.h"

namespace fastclip::cuda {

// A pair that the screen let pass: x of screen.h.
struct Candidate {
  float x;
  int32_t key;
};

// Tiles with queries that overflowed, to be screened again. Of the two lists, one is read while the
// other is filled.
struct RetryList {
  RetryList(Workspace& workspace, int64_t most)
      : count(workspace.take<int>(1 + 2 * most)), listed(count + 1), tiles(listed + most) {}

  int* count;
  int* listed;  // of each tile, whether it is in the list
  int* tiles;
};

struct TopKState {
  TopKState(Workspace& workspace, int64_t padded, int64_t capacity)
      : capacity(static_cast<int>(capacity)),
        floors(workspace.take<float>(padded)),
        thresholds(workspace.take<float>(padded)),
        retry_thresholds(workspace.take<float>(padded)),
        counts(workspace.take<int>(padded)),
        failed(workspace.take<int>(padded)),
        num_failed(workspace.take<int>(1)),
        retries{RetryList(workspace, padded / kQueryTile),
                RetryList(workspace, padded / kQueryTile)},
        candidates(workspace.take<Candidate>(padded * capacity)) {}

  __device__ float margin(int64_t q, int32_t key) const {
    return screen_margin(queries.coefficients[q], keys.error[key], keys.norm[key]) +
           queries.gamma[q];
  }

  // Upper bounds below this belong to scores below `score`.
  __device__ float floor_of(int64_t q, float score) const {
    return round_down((static_cast<double>(score) - queries.offset[q]) / queries.scale[q]);
  }

  __device__ void fail(int64_t q) const {
    thresholds[q] = NAN;
    retry_thresholds[q] = NAN;
    failed[atomicAdd(num_failed, 1)] = static_cast<int>(q);
  }

  __device__ OrderedKey* parts(int64_t q) const {
    return reinterpret_cast<OrderedKey*>(candidates + q * capacity);
  }

  CodedQueries queries{};
  ScreenKeys keys{};
  int k = 0;
  int capacity;       // candidates of one query
  float* floors;      // [padded] keys with a lower upper bound are dropped
  float* thresholds;  // [padded] floor - gamma, as the screen asks for it; NaN: not screened
  float* retry_thresholds;
  int* counts;  // [padded] all candidates, including those beyond the capacity
  int* failed;  // queries that the screen cannot answer
  int* num_failed;
  RetryList retries[2];
  Candidate* candidates;  // [padded, capacity]
};

// Inputs and results of a block of queries.
struct TopKOutput {
  Matrix queries, keys;
  float* values;     // [queries, k]
  int64_t* indices;  // [queries, k]
  int64_t* scored;   // pairs that were scored exactly

  __device__ void write(int64_t at, OrderedKey best) const {
    values[at] = score_of(best);
    indices[at] = key_of(best);
  }
};

// Fills `out` with the help of the screen.
void screened_topk(TopKState state, const TopKOutput& out, const QueryArrays& arrays,
                   Stream stream);

// Fills it by exact scores of all keys, for all queries or for those that failed.
void exact_topk(const TopKState& state, const TopKOutput& out, bool all, Stream stream);

}  // namespace fastclip::cuda
