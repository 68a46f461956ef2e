// The mainloop of float32 scores: those of a tile of queries with a block of keys are handed to a
// reducer while they are in the L1.
//
// Keys are cut into parts that depend on the shape of the keys alone, and the results of the parts
// are merged in order. So the answer for a query has the same bits for any number of threads and
// whatever other queries come with it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/threads.h"
#include "cpu/isa/kernels.h"
#include "cpu/tuning.h"
#include "fastclip/logsumexp.h"
#include "fastclip/matrix.h"

namespace fastclip::cpu {

// Blocks and parts of one question.
struct ValuePlan {
  ValuePlan(const ValueKernels& kernels, int64_t num_queries, int64_t num_keys, int64_t cols) {
    using namespace tuning;
    const int64_t row_bytes = std::max<int64_t>(1, cols) * 4;
    const auto rows = [&](int64_t bytes, int64_t most, int64_t tile) {
      return round_up(std::clamp<int64_t>(bytes / row_bytes, 1, most), tile);
    };
    query_block = rows(kValueQueryBytes, kMaxValueQueries, kernels.query_tile);
    query_blocks = ceil_div(num_queries, query_block);
    key_block = std::min(rows(kValueKeyBytes, kMaxValueKeys, kernels.key_tile),
                         round_up(std::max<int64_t>(1, num_keys), kernels.key_tile));
    part_keys = round_up(std::max(kPartKeys, ceil_div(num_keys, kMaxParts)), key_block);
    parts = ceil_div(num_keys, part_keys);
    split = parts > 1 && query_blocks < kEnoughTasks;
  }

  int64_t query_block, query_blocks;
  int64_t key_block, part_keys, parts;
  bool split;  // whether the parts of one query are tasks of their own
};

// Calls reduce(first_query, rows, scores, ld, first_key, count) for each tile of queries and block
// of keys, keys in increasing order, with scores[i * ld + j] of queries.row(first_query + i) and
// key first_key + j; the scores may be written to. Keys before first_needed(query), which rises
// with the query, may be left out. Returns early when interrupted.
template <class FirstNeeded, class Reduce>
void value_sweep(const ValueKernels& kernels, ValueKernels::Score* score, const Matrix& queries,
                 const Matrix& keys, int64_t first_key, int64_t last_key, int64_t block,
                 Interrupt& interrupt, FirstNeeded&& first_needed, Reduce&& reduce) {
  const int64_t cols = queries.cols, tile = kernels.query_tile;
  AlignedBuffer<float> packed_queries(queries.rows * cols);
  AlignedBuffer<float> scores(tile * block);
  const int64_t whole_tiles = queries.rows / tile * tile;
  kernels.pack(queries.slice(0, whole_tiles), tile, packed_queries.get());
  kernels.pack(queries.slice(whole_tiles, queries.rows), std::max<int64_t>(1, queries.rows % tile),
               packed_queries.get() + whole_tiles * cols);
  if (score == kernels.products && queries.rows <= tuning::kFewQueries) {
    for (int64_t begin = first_key; begin < last_key; begin += block) {
      if (interrupt.poll()) return;
      const int64_t end = std::min(begin + block, last_key);
      if (first_needed(0) >= end) continue;
      kernels.products_in_place(packed_queries.get(), queries.rows, keys.slice(begin, end),
                                scores.get(), block);
      reduce(0, queries.rows, scores.get(), block, begin, end - begin);
    }
    return;
  }
  AlignedBuffer<float> packed_keys(block * cols);
  for (int64_t begin = first_key; begin < last_key; begin += block) {
    if (interrupt.poll()) return;
    const int64_t end = std::min(begin + block, last_key);
    if (first_needed(0) >= end) continue;
    kernels.pack(keys.slice(begin, end), kernels.key_tile, packed_keys.get());
    for (int64_t i = 0; i < queries.rows; i += tile) {
      const int64_t skipped = std::max<int64_t>(0, first_needed(i) - begin);
      if (begin + skipped >= end) break;
      const int64_t from = skipped / kernels.key_tile * kernels.key_tile;
      const int64_t rows = std::min(tile, queries.rows - i);
      score(packed_queries.get() + i * cols, rows, packed_keys.get() + from * cols,
            end - begin - from, cols, scores.get(), block);
      reduce(i, rows, scores.get(), block, begin + from, end - begin - from);
    }
  }
}

// The log-sum-exp state of each query over all keys. sweep_part(first_query, last_query, first_key,
// last_key, states) adds the scores of a block of queries with a part of the keys to fresh states.
template <class SweepPart>
std::vector<LogSumExp> log_sum_exp_states(const ValuePlan& plan, int64_t num_queries,
                                          int64_t num_keys, double scale, int threads,
                                          Interrupt& interrupt, SweepPart sweep_part) {
  const int64_t tasks_per_block = plan.split ? plan.parts : 1;
  std::vector<LogSumExp> results(num_queries);
  std::vector<LogSumExp> of_parts(plan.split ? num_queries * plan.parts : 0);
  parallel_for(plan.query_blocks * tasks_per_block, threads, interrupt, [&](int64_t task) {
    const int64_t first_query = task / tasks_per_block * plan.query_block;
    const int64_t last_query = std::min(first_query + plan.query_block, num_queries);
    const int64_t first_part = plan.split ? task % tasks_per_block : 0;
    const int64_t last_part = plan.split ? first_part + 1 : plan.parts;
    for (int64_t part = first_part; part < last_part; ++part) {
      const int64_t first_key = part * plan.part_keys;
      std::vector<LogSumExp> states(last_query - first_query);
      sweep_part(first_query, last_query, first_key, std::min(first_key + plan.part_keys, num_keys),
                 states.data());
      for (int64_t i = first_query; i < last_query; ++i) {
        const LogSumExp& state = states[i - first_query];
        if (plan.split) {
          of_parts[part * num_queries + i] = state;
        } else {
          results[i].merge(state, scale);
        }
      }
    }
  });
  if (plan.split) {
    for (int64_t part = 0; part < plan.parts; ++part) {
      for (int64_t i = 0; i < num_queries; ++i) {
        results[i].merge(of_parts[part * num_queries + i], scale);
      }
    }
  }
  return results;
}

}  // namespace fastclip::cpu
