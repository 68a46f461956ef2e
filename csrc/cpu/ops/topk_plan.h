// Shared by exact and screened top-k: tasks over queries x keys, and the merge of parts of the
// keys.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/screen.h"
#include "cpu/engine/threads.h"
#include "cpu/ops/topk.h"

namespace fastclip::cpu {

struct TopKTask : PlanTask {
  int64_t k;  // no more than the keys of the task
};

// Runs search(task, finish) for each task of the plan; `search` fills a TopK of the task's queries
// and hands it to `finish`.
template <class Search>
void reduce_topk(const Kernels& isa, const Plan& plan, int64_t queries, int64_t keys, int64_t k,
                 float* values, int64_t* indices, int threads, Interrupt& interrupt,
                 Search&& search) {
  // Where the keys are split, each part leaves its best min(k, its keys) for the merge below.
  const bool split = plan.key_parts > 1;
  const int64_t part_k = std::min(k, plan.keys_per_part);
  const size_t slots = split ? static_cast<size_t>(queries * plan.key_parts) : 0;
  std::vector<float> part_values(slots * part_k);
  std::vector<int64_t> part_indices(slots * part_k);
  std::vector<int64_t> part_counts(slots);

  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t index) {
    TopKTask task{plan.task(index), k};
    task.k = std::min(k, task.last_key - task.first_key);
    search(task, [&](TopK& best) {
      for (int64_t query = task.first_query; query < task.last_query; ++query) {
        const int64_t row = query - task.first_query;
        if (split) {
          const int64_t slot = query * plan.key_parts + task.part;
          part_counts[slot] = best.finish(row, part_values.data() + slot * part_k,
                                          part_indices.data() + slot * part_k);
        } else {
          best.finish(row, values + query * k, indices + query * k);
        }
      }
    });
  });
  if (!split) return;

  parallel_for(queries, threads, interrupt, [&](int64_t query) {
    TopK best(isa, 1, keys, k);
    for (int64_t part = 0; part < plan.key_parts; ++part) {
      const int64_t slot = query * plan.key_parts + part;
      best.merge(0, part_values.data() + slot * part_k, part_indices.data() + slot * part_k,
                 part_counts[slot]);
    }
    best.finish(0, values + query * k, indices + query * k);
  });
}

// Top-k through the screen; topk() chooses between it and exact scores of all pairs. With
// `nonfinite`, keys are checked: the screen leaves those that are not finite to exact scores.
int64_t screened_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                      const Screens& screens, const uint8_t* allowed, int64_t k,
                      NonFiniteRow* nonfinite, float* values, int64_t* indices, int threads,
                      Interrupt& interrupt);

}  // namespace fastclip::cpu
