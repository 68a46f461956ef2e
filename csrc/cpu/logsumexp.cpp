#include "fastclip/logsumexp.h"

#include <functional>

#include "isa.h"
#include "ops.h"
#include "value_loop.h"

namespace fastclip::cpu {

void logsumexp(const Matrix& queries, const Matrix& keys, double scale, float* out, int threads,
               Interrupt& interrupt) {
  const ValueKernels& isa = kernels().value;
  const ValuePlan plan(isa, queries.rows, keys.rows, queries.cols);
  // exp(scale * s) = exp(-scale * -s), and negating the queries is exact.
  const bool negative = scale < 0;
  const double positive_scale = negative ? -scale : scale;
  const auto all_keys = [](int64_t) { return int64_t{0}; };
  const auto states = log_sum_exp_states(
      plan, queries.rows, keys.rows, positive_scale, threads, interrupt,
      [&](int64_t first_query, int64_t last_query, int64_t first_key, int64_t last_key,
          LogSumExp* state) {
        value_sweep(
            isa, isa.products, queries.slice(first_query, last_query), keys, first_key, last_key,
            plan.key_block, interrupt, all_keys,
            [&](int64_t first, int64_t rows, float* scores, int64_t ld, int64_t, int64_t count) {
              for (int64_t i = 0; i < rows; ++i) {
                float* row = scores + i * ld;
                if (negative) std::transform(row, row + count, row, std::negate<>());
                state[first + i].accumulate(row, count, positive_scale, isa.largest, isa.sum_exp);
              }
            });
      });
  for (int64_t i = 0; i < queries.rows; ++i) {
    out[i] = static_cast<float>(states[i].finish(positive_scale));
  }
}

}  // namespace fastclip::cpu
