// The screen against thresholds that are known beforehand: one exact score per query.
#pragma once

#include <algorithm>

#include "cuda/arch/mainloop.cuh"
#include "cuda/engine/encode_queries.h"
#include "cuda/engine/pair_list.cuh"
#include "cuda/engine/plan.h"
#include "cuda/tuning.h"
#include "fastclip/view.h"

namespace fastclip::cuda {

// What a key must pass: a higher score, or an equal one with an index below its query's tie.
struct Thresholds {
  const float* scores;
  const int64_t* ties;

  __device__ bool passed(int64_t query, int64_t key, float score) const {
    return score > scores[query] || (score == scores[query] && key < ties[query]);
  }
  Thresholds slice(int64_t first) const { return {scores + first, ties + first}; }
};

// The two queries of a lane: what an upper bound must reach for a pair to pass perhaps, and a lower
// one for it to pass surely.
struct FixedRows : ThresholdRows {
  __device__ FixedRows(int64_t first_query, const ScreenQuery* coefficients,
                       const ScreenThreshold* thresholds)
      : FixedRows(coefficients[Strip::query_of(first_query, 0)],
                  coefficients[Strip::query_of(first_query, 1)],
                  thresholds[Strip::query_of(first_query, 0)],
                  thresholds[Strip::query_of(first_query, 1)]) {}
  __device__ FixedRows(const ScreenQuery& query0, const ScreenQuery& query1,
                       const ScreenThreshold& threshold0, const ScreenThreshold& threshold1)
      : ThresholdRows(query0, query1, threshold0.maybe, threshold1.maybe),
        sure{threshold0.sure, threshold1.sure} {}

  float sure[2];
};

// Bits (visit_strip) of the pairs of a strip that surely pass.
__device__ __forceinline__ uint32_t surely(const int (&dots)[8][4], const Strip& strip,
                                           const FixedRows& rows) {
  uint32_t bits = 0;
  visit_strip(dots, strip, [&](int h, int bit, const ScreenedScore& score) {
    if (score.lower(rows.query[h]) >= rows.sure[h]) bits |= 1u << bit;
  });
  return bits;
}

// Epilogues of these searches.
struct FixedEpilogue : Epilogue {
  using Rows = FixedRows;
  using State = PairList::Places;
  const ScreenQuery* coefficients;
  const ScreenThreshold* thresholds;
  PairList list;

  FixedEpilogue(const ScreenQuery* coefficients, const ScreenThreshold* thresholds,
                const PairList& list)
      : coefficients(coefficients), thresholds(thresholds), list(list) {}

  __device__ Rows rows(int64_t first_query) const {
    return {first_query, coefficients, thresholds};
  }
  __device__ void finish(State& places) const { list.leave(places); }
};

struct FixedMemory {
  FixedMemory(Workspace& workspace, const FixedPlan& plan, int64_t width)
      : arrays(workspace, padded_queries(plan.queries), width),
        thresholds(workspace.take<ScreenThreshold>(padded_queries(plan.queries))),
        list(workspace, plan.open, PairList::strips(plan.queries, plan.keys)) {}

  FixedEpilogue epilogue() const { return {arrays.coefficients, thresholds, list}; }

  QueryArrays arrays;
  ScreenThreshold* thresholds;
  PairList list;
};

// `call` is that of an operation with queries, keys and a screen.
template <class Call>
Room fixed_room(const Call& call, int64_t most) {
  const int64_t queries = rows_at_once(call.queries.rows, tuning().search_queries, most);
  Workspace workspace;
  FixedMemory(workspace, FixedPlan(call.queries.rows, call.keys.rows, queries),
              width_of(call.screen));
  return {queries, workspace.bytes()};
}

// Codes the queries and turns their scores into thresholds of the screen.
void begin_fixed(const Matrix& queries, const ScreenKeys& keys, const float* scores,
                 const QueryArrays& arrays, ScreenThreshold* thresholds, Stream stream);

// What all searches against fixed thresholds do; `call` has these, too. For each block of queries
// make(first) returns `take`, which gets the exact scores, and a function that makes an epilogue of
// a FixedMemory, for pairs of which it leaves the undecided ones in the list.
template <class Call, class Make>
void search_fixed(const Call& call, int64_t at_once, void* memory, Stream stream, Make make) {
  const auto &queries = call.queries, &keys = call.keys;
  const ScreenKeys* screen_keys = call.screen;
  int64_t* scored = call.survivors.data;
  check_number_of_keys(keys);
  const FixedPlan plan(queries.rows, keys.rows, at_once);
  zero(scored, sizeof(int64_t), stream);
  Workspace workspace(memory);
  FixedMemory parts(workspace, plan, width_of(screen_keys));
  if (screen_keys != nullptr && queries.rows > 0) bound_keys(*screen_keys, parts.arrays, stream);
  for (int64_t first = 0; first < queries.rows; first += plan.queries) {
    const Matrix rows = queries.slice(first, std::min(first + plan.queries, queries.rows));
    const auto task = make(first);
    if (screen_keys == nullptr) {
      rescore_all(parts.list, rows, keys, task.take, scored, stream);
      continue;
    }
    begin_fixed(rows, *screen_keys, call.scores.data + first, parts.arrays, parts.thresholds,
                stream);
    for (int64_t key = 0; key < keys.rows; key += plan.keys) {
      const int64_t last = std::min(key + plan.keys, keys.rows);
      parts.list.begin(rows.rows, key, last, stream);
      const MainloopParams params{parts.arrays.codes, padded_queries(rows.rows) / kQueryTile,
                                  *screen_keys, key, last};
      screen(params, task.epilogue(parts), stream);
      rescore(parts.list, rows, keys, task.take, scored, stream);
    }
  }
}

}  // namespace fastclip::cuda
