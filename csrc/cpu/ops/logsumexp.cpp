#include "fastclip/logsumexp.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/value_loop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/ops/find_nonfinite.h"
#include "fastclip/ops/logsumexp.h"

namespace fastclip::cpu {

namespace {

// Adds the scores of queries with keys to their states. exp(scale * s) = exp(-scale * -s), and
// negation is exact, so that states are those of |scale|. With `nonfinite`, keys are checked.
void add_scores(const Kernels& isa, const ValuePlan& plan, const Matrix& queries,
                const Matrix& keys, int64_t first_key, int64_t last_key, double scale,
                LogSumExp* state, NonFiniteRow* nonfinite, Interrupt& interrupt) {
  const auto all_keys = [](int64_t) { return int64_t{0}; };
  value_sweep(
      isa.value, isa.value.products, queries, keys, first_key, last_key, plan.key_block, interrupt,
      all_keys,
      [&](int64_t first, int64_t rows, float* scores, int64_t ld, int64_t begin, int64_t count) {
        if (nonfinite != nullptr && first == 0) {
          check_finite(isa, keys, begin, count, scores, *nonfinite);
        }
        for (int64_t i = 0; i < rows; ++i) {
          float* row = scores + i * ld;
          if (scale < 0) std::transform(row, row + count, row, std::negate<>());
          state[first + i].accumulate(row, count, std::abs(scale), isa.value.largest,
                                      isa.value.sum_exp);
        }
      });
}

}  // namespace

int64_t logsumexp(const LogSumExpCall& call, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const double scale = call.scale;
  const int64_t query = find_nonfinite({queries, {}}, threads, interrupt);
  if (query >= 0) return query;
  // With few queries a separate pass over the keys would be a large part of the time.
  const bool check_scores =
      call.check_keys && 0 < queries.rows && queries.rows <= tuning::kFewQueries;
  if (call.check_keys && !check_scores) {
    const int64_t key = find_nonfinite({keys, {}}, threads, interrupt);
    if (key >= 0) return queries.rows + key;
  }
  NonFiniteRow nonfinite;
  const Kernels& isa = kernels();
  const ValuePlan plan(isa.value, queries.rows, keys.rows, queries.cols);
  const auto states = log_sum_exp_states(
      plan, queries.rows, keys.rows, std::abs(scale), threads, interrupt,
      [&](int64_t first_query, int64_t last_query, int64_t first_key, int64_t last_key,
          LogSumExp* state) {
        add_scores(isa, plan, queries.slice(first_query, last_query), keys, first_key, last_key,
                   scale, state, check_scores ? &nonfinite : nullptr, interrupt);
      });
  if (nonfinite.any()) return queries.rows + nonfinite.row();
  for (int64_t i = 0; i < queries.rows; ++i) {
    call.out[i] = static_cast<float>(states[i].finish(std::abs(scale)));
  }
  return -1;
}

ValueBlocks value_blocks(int64_t num_keys, int64_t cols) {
  const ValuePlan plan(kernels().value, 1, num_keys, cols);
  return {plan.key_block, plan.part_keys, plan.parts};
}

void logsumexp_add(const LogSumExpAddCall& call, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const auto& max = call.max;
  const auto& sum = call.sum;
  const int64_t begin = call.begin;
  const Kernels& isa = kernels();
  const ValuePlan plan(isa.value, queries.rows, call.num_keys, queries.cols);
  const int64_t end = begin + keys.rows;
  const int64_t first_part = begin / plan.part_keys;
  const int64_t parts = ceil_div(end, plan.part_keys) - first_part;
  parallel_for(plan.query_blocks * parts, threads, interrupt, [&](int64_t task) {
    const int64_t first_query = task / parts * plan.query_block;
    const int64_t last_query = std::min(first_query + plan.query_block, queries.rows);
    const int64_t part = first_part + task % parts;
    const int64_t first_key = std::max(part * plan.part_keys, begin);
    const int64_t last_key = std::min((part + 1) * plan.part_keys, end);
    std::vector<LogSumExp> states(last_query - first_query);
    for (int64_t i = first_query; i < last_query; ++i) {
      states[i - first_query] = {max[part * queries.rows + i], sum[part * queries.rows + i]};
    }
    add_scores(isa, plan, queries.slice(first_query, last_query), keys, first_key - begin,
               last_key - begin, call.scale, states.data(), nullptr, interrupt);
    for (int64_t i = first_query; i < last_query; ++i) {
      max[part * queries.rows + i] = states[i - first_query].max;
      sum[part * queries.rows + i] = states[i - first_query].sum;
    }
  });
}

void logsumexp_merge(const LogSumExpMergeCall& call, int, Interrupt&) {
  for (int64_t i = 0; i < call.max.count(); ++i) {
    LogSumExp state{call.max[i], call.sum[i]};
    state.merge({call.other_max[i], call.other_sum[i]}, std::abs(call.scale));
    call.max[i] = state.max;
    call.sum[i] = state.sum;
  }
}

void logsumexp_finish(const LogSumExpFinishCall& call, int, Interrupt&) {
  const int64_t parts = call.max.sizes[0], rows = call.max.sizes[1];
  const double scale = std::abs(call.scale);
  for (int64_t i = 0; i < rows; ++i) {
    LogSumExp state;
    for (int64_t part = 0; part < parts; ++part) {
      state.merge({call.max[part * rows + i], call.sum[part * rows + i]}, scale);
    }
    call.out[i] = static_cast<float>(state.finish(scale));
  }
}

}  // namespace fastclip::cpu
