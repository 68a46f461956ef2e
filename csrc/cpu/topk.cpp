#include "fastclip/topk.h"

#include <vector>

#include "isa.h"
#include "mainloop.h"
#include "ops.h"

namespace fastclip::cpu {
namespace {

// Queries of one task, fewer where k is large: a thread's candidates stay within about 16 MiB.
int64_t query_block_rows(int64_t keys, int64_t k) {
  constexpr int64_t kCandidateBytes = 16 << 20;
  const int64_t per_query = TopK::capacity(keys, k) * static_cast<int64_t>(sizeof(ScoredKey));
  return std::clamp<int64_t>(kCandidateBytes / per_query, 1, kMaxQueryBlock);
}

}  // namespace

void topk(const Matrix& queries, const Matrix& keys, int64_t k, float* values, int64_t* indices,
          int threads, Interrupt& interrupt) {
  const Kernels& isa = kernels();
  const int64_t key_block = key_block_rows(lane_steps(queries.cols), isa.key_tile);
  const Plan plan(queries.rows, keys.rows, query_block_rows(keys.rows, k), key_block, threads);

  // Where the keys are split, each part leaves its best min(k, its keys) for the merge below.
  const bool split = plan.key_parts > 1;
  const int64_t part_k = std::min(k, plan.keys_per_part);
  const size_t part_size = split ? static_cast<size_t>(queries.rows * plan.key_parts * part_k) : 0;
  std::vector<float> part_values(part_size);
  std::vector<int64_t> part_indices(part_size);
  std::vector<int64_t> part_counts(split ? queries.rows * plan.key_parts : 0);

  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t task) {
    const int64_t part = task % plan.key_parts;
    const int64_t first_query = task / plan.key_parts * plan.query_block;
    const int64_t last_query = std::min(first_query + plan.query_block, queries.rows);
    const int64_t first_key = part * plan.keys_per_part;
    const int64_t last_key = std::min(first_key + plan.keys_per_part, keys.rows);
    const int64_t rows = last_query - first_query;
    TopK best(rows, last_key - first_key, std::min(k, last_key - first_key));
    sweep(isa, queries.slice(first_query, last_query), keys, first_key, last_key, interrupt,
          [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = 0; i < rows; ++i) best.accumulate(i, scores + i * ld, count, begin);
          });
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t query = first_query + i;
      if (split) {
        const int64_t slot = query * plan.key_parts + part;
        part_counts[slot] =
            best.finish(i, part_values.data() + slot * part_k, part_indices.data() + slot * part_k);
      } else {
        best.finish(i, values + query * k, indices + query * k);
      }
    }
  });
  if (!split) return;

  parallel_for(queries.rows, threads, interrupt, [&](int64_t query) {
    TopK best(1, keys.rows, k);
    for (int64_t part = 0; part < plan.key_parts; ++part) {
      const int64_t slot = query * plan.key_parts + part;
      best.merge(0, part_values.data() + slot * part_k, part_indices.data() + slot * part_k,
                 part_counts[slot]);
    }
    best.finish(0, values + query * k, indices + query * k);
  });
}

}  // namespace fastclip::cpu
