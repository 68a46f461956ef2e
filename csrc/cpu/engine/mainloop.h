// The mainloop of exact scores: those of a range of queries with a range of keys are computed block
// by block and handed to a reducer. Each thread holds one block of scores at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/engine/buffer.h"
#include "cpu/engine/threads.h"
#include "cpu/isa/kernels.h"
#include "cpu/tuning.h"
#include "fastclip/exact_score.h"
#include "fastclip/matrix.h"

namespace fastclip::cpu {

inline int64_t key_block_rows(int64_t steps, int64_t key_tile) {
  const int64_t row_bytes = std::max<int64_t>(1, steps) * kLanes * 8;
  return round_up(std::clamp<int64_t>(tuning::kKeyBlockBytes / row_bytes, 1, tuning::kMaxKeyBlock),
                  key_tile);
}

// The lowest row found to hold a NaN or an infinity, if any.
class NonFiniteRow {
 public:
  void found(int64_t row) {
    int64_t before = row_;
    while (row < before && !row_.compare_exchange_weak(before, row)) {
    }
  }
  bool any() const { return row_ != kNone; }
  int64_t row() const { return row_; }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> row_{kNone};
};

// Whether keys [begin, begin + count) are finite, judged by their scores with a finite query: an
// element that is not finite makes the sum so. Where the sum or its rounding may have overflowed
// instead, the keys themselves are checked.
inline bool check_finite(const Kernels& kernels, const Matrix& keys, int64_t begin, int64_t count,
                         const float* scores, NonFiniteRow& nonfinite) {
  if (keys.dtype != DType::kFloat16) {  // its conversion assumes finite numbers
    constexpr uint32_t kExponent = 0x7f800000;
    bool finite = true;
    for (int64_t j = 0; j < count; ++j) {
      finite &= (std::bit_cast<uint32_t>(scores[j]) & kExponent) != kExponent;
    }
    if (finite) return true;
  }
  const int64_t row = kernels.find_nonfinite(keys.slice(begin, begin + count));
  if (row >= 0) nonfinite.found(begin + row);
  return row < 0;
}

// Replaces the scores of keys that are not `allowed`, which may be null, by NaN.
inline void leave_out(const uint8_t* allowed, float* scores, int64_t ld, int64_t queries,
                      int64_t first_key, int64_t count) {
  if (allowed == nullptr) return;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < count; ++j) {
      float& score = scores[i * ld + j];
      score = allowed[first_key + j] != 0 ? score : std::numeric_limits<float>::quiet_NaN();
    }
  }
}

// Calls reduce(scores, ld, first_key, count) for each block of keys, in increasing order, with
// scores[i * ld + j] of queries.row(i) and key first_key + j. Returns early when interrupted and,
// with `nonfinite`, at the first block with a key that is not finite, as the scores of the first
// query tell.
template <class Reduce>
void sweep(const Kernels& kernels, const Matrix& queries, const Matrix& keys, int64_t first_key,
           int64_t last_key, Interrupt& interrupt, Reduce&& reduce,
           NonFiniteRow* nonfinite = nullptr) {
  if (first_key >= last_key) return;
  const int64_t steps = lane_steps(queries.cols);
  const int64_t row = steps * kLanes;
  const int64_t block = std::min(key_block_rows(steps, kernels.key_tile),
                                 round_up(last_key - first_key, kernels.key_tile));
  AlignedBuffer<double> query_rows(queries.rows * row, Contents::kAnything);
  AlignedBuffer<float> scores(queries.rows * block, Contents::kAnything);
  kernels.load_rows(queries, query_rows.get());
  const auto finite = [&](int64_t begin, int64_t count) {
    return nonfinite == nullptr ||
           check_finite(kernels, keys, begin, count, scores.get(), *nonfinite);
  };
  if (queries.rows <= tuning::kFewQueries) {
    for (int64_t begin = first_key; begin < last_key; begin += block) {
      if (interrupt.poll()) return;
      const int64_t count = std::min(block, last_key - begin);
      for (int64_t i = 0; i < queries.rows; ++i) {
        kernels.score_keys(query_rows.get() + i * row, keys.slice(begin, begin + count),
                           scores.get() + i * block);
      }
      if (!finite(begin, count)) return;
      reduce(scores.get(), block, begin, count);
    }
    return;
  }
  AlignedBuffer<double> key_rows(block * row, Contents::kAnything);
  for (int64_t begin = first_key; begin < last_key; begin += block) {
    if (interrupt.poll()) return;
    const int64_t end = std::min(begin + block, last_key);
    kernels.load_rows(keys.slice(begin, end), key_rows.get());
    // Scores of padding are never read, but denormals there would be slow to multiply.
    const int64_t beyond = round_up(end - begin, kernels.key_tile) - (end - begin);
    std::fill_n(key_rows.get() + (end - begin) * row, beyond * row, 0.0);
    kernels.score_block(query_rows.get(), queries.rows, key_rows.get(), end - begin, steps,
                        scores.get(), block);
    if (!finite(begin, end - begin)) return;
    reduce(scores.get(), block, begin, end - begin);
  }
}

// Threads that are worth waking.
inline int useful_threads(int threads, int64_t queries, int64_t keys, int64_t cols) {
  const double products = static_cast<double>(queries) * static_cast<double>(keys) *
                          static_cast<double>(std::max<int64_t>(cols, 1));
  return static_cast<int>(
      std::clamp(products / tuning::kProductsPerThread, 1.0, std::max(1.0, 1.0 * threads)));
}

// A task: some queries with some keys.
struct PlanTask {
  int64_t first_query, last_query;
  int64_t part;  // of the keys
  int64_t first_key, last_key;
};

// Cuts queries x keys into tasks. Where there are enough queries only these are split, since bounds
// found in one part of the keys help in the next. With few queries the keys are split as well, so
// that every thread has work. A part has at least `key_block` keys if there are that many, or
// `least_key_block` where a thread would have no work otherwise.
struct Plan {
  static constexpr int64_t kPartMultiple = 32;  // where parts begin
  Plan(int64_t queries, int64_t keys, int64_t max_query_block, int64_t key_block,
       int64_t least_key_block, int threads)
      : queries(queries), keys(keys) {
    using namespace tuning;
    int64_t blocks = std::max<int64_t>(1, ceil_div(queries, max_query_block));
    if (blocks > threads) {
      blocks = round_up<int64_t>(blocks, threads);
    } else if (queries >= kEnoughQueries * threads || keys < 2 * key_block) {
      blocks = std::clamp<int64_t>(queries / kFewestQueries, blocks, threads);
    }
    query_block = std::max<int64_t>(1, ceil_div(queries, blocks));
    query_blocks = ceil_div(queries, query_block);
    const int64_t wanted = query_blocks >= threads ? 1
                                                   : ceil_div(kTasksPerThread * threads,
                                                              std::max<int64_t>(query_blocks, 1));
    int64_t parts = std::clamp<int64_t>(keys / key_block, 1, wanted);
    if (parts > threads) parts -= parts % threads;
    const int64_t each = ceil_div<int64_t>(threads, std::max<int64_t>(query_blocks, 1));
    parts = std::max(parts, std::min(keys / least_key_block, each));
    keys_per_part = round_up(std::max<int64_t>(1, ceil_div(keys, parts)), kPartMultiple);
    key_parts = ceil_div(keys, keys_per_part);
  }

  int64_t tasks() const { return query_blocks * key_parts; }

  // Tasks are in the order of their keys: where these are split, a thread meets those that it
  // packed itself (parallel_for).
  PlanTask task(int64_t index) const {
    const int64_t part = index / query_blocks;
    const int64_t query = index % query_blocks * query_block, key = part * keys_per_part;
    return {query, std::min(query + query_block, queries), part, key,
            std::min(key + keys_per_part, keys)};
  }

  int64_t queries, keys;
  int64_t query_block;
  int64_t query_blocks;
  int64_t keys_per_part = 1;
  int64_t key_parts = 1;
};

}  // namespace fastclip::cpu
