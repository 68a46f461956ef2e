// How work is cut: every query and key belongs to one task, and what the tasks find is merged.
#include <algorithm>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/value_loop.h"
#include "cpu/isa/isa.h"
#include "cpu/ops/topk_plan.h"
#include "cpu/tuning.h"
#include "fastclip/scored_key.h"
#include "inputs.h"
#include "tests.h"

namespace fastclip::tests {
namespace {

// Whether `count` pieces of `size` hold `all`, and one piece less does not.
bool covers(int64_t count, int64_t size, int64_t all) {
  return all == 0 ? count == 0 : (count - 1) * size < all && all <= count * size;
}

void check_plan(const Run& run, int64_t queries, int64_t keys, int64_t most, int64_t key_block,
                int threads) {
  const int64_t least = 1 + random_below(key_block);
  const cpu::Plan plan(queries, keys, most, key_block, least, threads);
  run.expect(covers(plan.query_blocks, plan.query_block, queries), "blocks of queries");
  run.expect(covers(plan.key_parts, plan.keys_per_part, keys), "parts of the keys");
  run.expect(plan.query_block <= most, "the size of a block of queries");
  run.expect(plan.keys_per_part % cpu::Plan::kPartMultiple == 0, "where parts begin");
  run.expect(plan.key_parts <= 1 || plan.keys_per_part >= least, "the size of a part");
  int64_t pairs = 0, last_key = 0;
  for (int64_t index = 0; index < plan.tasks(); ++index) {
    const cpu::PlanTask task = plan.task(index);
    pairs += (task.last_query - task.first_query) * (task.last_key - task.first_key);
    run.expect(task.first_key == task.part * plan.keys_per_part && task.last_key >= last_key &&
                   task.last_query <= queries && task.last_key <= keys,
               "tasks in the order of their keys");
    last_key = task.last_key;
  }
  run.expect(pairs == queries * keys, "the pairs of all tasks");
  const bool all_work = plan.tasks() >= threads;
  run.expect(!all_work || plan.key_parts <= 1 || plan.keys_per_part >= key_block ||
                 plan.query_blocks * (plan.key_parts - 1) < threads,
             "no smaller parts than it takes for all threads to have work");
  // Parts begin at multiples, so that there may be fewer.
  const int64_t possible = plan.query_blocks * (keys / round_up(least, cpu::Plan::kPartMultiple));
  run.expect(2 * plan.tasks() >= std::min<int64_t>(threads, possible), "tasks for most threads");
  run.expect(threads > 1 || plan.key_parts <= 1 || queries == 0, "parts for one thread");
  const bool enough = queries >= threads && keys >= 2 * key_block * threads;
  run.expect(!enough || plan.tasks() >= threads, "a task for each thread");
}

void check_value_plan(const Run& run, int64_t queries, int64_t keys, int64_t cols) {
  const cpu::ValueKernels& isa = cpu::kernels().value;
  const cpu::ValuePlan plan(isa, queries, keys, cols), other(isa, 1, keys, cols);
  run.expect(covers(plan.query_blocks, plan.query_block, queries), "blocks of queries");
  run.expect(covers(plan.parts, plan.part_keys, keys), "parts of sums");
  run.expect(plan.parts <= cpu::tuning::kMaxParts, "how many parts of sums");
  run.expect(plan.part_keys % plan.key_block == 0, "blocks of a part");
  run.expect(plan.key_block % isa.key_tile == 0, "tiles of a block of keys");
  run.expect(plan.query_block % isa.query_tile == 0, "tiles of a block of queries");
  // What is added up together depends on the keys alone.
  run.expect(plan.key_block == other.key_block && plan.part_keys == other.part_keys,
             "parts for other queries");
}

}  // namespace

void check_plans(Run& run) {
  random_state = 9;
  constexpr int64_t kSizes[] = {0, 1, 2, 7, 31, 32, 33, 255, 256, 1000, 4096, 100'000};
  for (const int64_t queries : kSizes) {
    for (const int64_t keys : kSizes) {
      for (const int threads : {1, 2, 3, 8, 64}) {
        const int64_t most = 1 + random_below(1000), block = 1 + random_below(5000);
        check_plan(run, queries, keys, most, block, threads);
      }
      for (const int64_t cols : {1, 512, 100'000}) check_value_plan(run, queries, keys, cols);
    }
  }
}

// The best keys of parts, merged, are those of all keys.
void check_topk_of_parts(Run& run) {
  random_state = 10;
  const cpu::Kernels& isa = cpu::kernels();
  for (const int64_t keys : {1, 40, 700, 5000}) {
    constexpr int64_t kQueries = 5;
    Floats scores(kQueries * keys);
    for (float& x : scores) x = static_cast<float>(random_below(50));
    for (const int64_t wanted : {1, 10, 300}) {
      const int64_t k = std::min<int64_t>(wanted, keys);
      const cpu::Plan plan(kQueries, keys, 2, 64, 64, 2 * run.threads);
      Floats values(kQueries * k), expected_values;
      Indices indices(kQueries * k), expected_indices;
      cpu::reduce_topk(isa, plan, kQueries, keys, k, values.data(), indices.data(), run.threads,
                       run.interrupt, [&](const cpu::TopKTask& task, auto&& finish) {
                         const int64_t count = task.last_key - task.first_key;
                         run.expect(0 < task.k && task.k <= std::min(k, count), "k of a part");
                         cpu::TopK best(isa, task.last_query - task.first_query, count, task.k);
                         for (int64_t q = task.first_query; q < task.last_query; ++q) {
                           best.accumulate(q - task.first_query,
                                           scores.data() + q * keys + task.first_key, count,
                                           task.first_key);
                         }
                         finish(best);
                       });
      for (int64_t q = 0; q < kQueries; ++q) {
        std::vector<ScoredKey> row;
        for (int64_t j = 0; j < keys; ++j) row.push_back({scores[q * keys + j], j});
        std::sort(row.begin(), row.end(), ahead);
        for (int64_t r = 0; r < k; ++r) {
          expected_values.push_back(row[r].score);
          expected_indices.push_back(row[r].index);
        }
      }
      run.same(values, expected_values, "the best keys of parts (values)");
      run.same(indices, expected_indices, "the best keys of parts (indices)");
    }
  }
}

}  // namespace fastclip::tests
