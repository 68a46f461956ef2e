#include "fastclip/ops/topk.h"

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/ops/topk_plan.h"
#include "cpu/tuning.h"
#include "fastclip/ops/find_nonfinite.h"

namespace fastclip::cpu {
namespace {

// Queries of one task, fewer where k is large.
int64_t query_block_rows(int64_t keys, int64_t k) {
  const int64_t per_query = TopK::capacity(keys, k) * TopK::kEntryBytes;
  return std::clamp<int64_t>(tuning::kCandidateBytes / per_query, 1, tuning::kMaxQueryBlock);
}

void exact_topk(const Kernels& isa, const Matrix& queries, const Matrix& keys,
                const uint8_t* allowed, int64_t k, NonFiniteRow* nonfinite, float* values,
                int64_t* indices, int threads, Interrupt& interrupt) {
  // Each part of the keys leaves k of them to be merged.
  const int64_t key_block = std::max(key_block_rows(lane_steps(queries.cols), isa.key_tile), 4 * k);
  const Plan plan(queries.rows, keys.rows, query_block_rows(keys.rows, k), key_block, key_block,
                  threads);
  reduce_topk(isa, plan, queries.rows, keys.rows, k, values, indices, threads, interrupt,
              [&](const TopKTask& task, auto&& finish) {
                TopK best(isa, task.last_query - task.first_query, task.last_key - task.first_key,
                          task.k);
                sweep(
                    isa, queries.slice(task.first_query, task.last_query), keys, task.first_key,
                    task.last_key, interrupt,
                    [&](float* scores, int64_t ld, int64_t begin, int64_t count) {
                      const int64_t rows = task.last_query - task.first_query;
                      leave_out(allowed, scores, ld, rows, begin, count);
                      for (int64_t i = 0; i < rows; ++i) {
                        best.accumulate(i, scores + i * ld, count, begin);
                      }
                    },
                    nonfinite);
                finish(best);
              });
}

}  // namespace

bool worth_codes(int64_t queries, int64_t keys, int64_t k) {
  return tuning::worth_codes(queries, keys, k, kernels().query_codes.narrow_sums);
}

int64_t topk(const TopKCall& call, Screening screening, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const ScreenKeys* codes = call.screen;
  const uint8_t* allowed = call.allowed.data;
  const int64_t k = call.values.sizes[1];
  *call.survivors.data = 0;
  const int64_t query = find_nonfinite({queries, {}}, threads, interrupt);
  if (query >= 0) return query;
  const Kernels& isa = kernels();
  const bool always = screening == Screening::kAlways;
  const bool coded = always || worth_codes(queries.rows, keys.rows, k);
  const Screens screens =
      screens_for(isa, coded ? codes : nullptr, queries.rows, screening,
                  always ? 0 : tuning::topk_float_keys(k, isa.query_codes.narrow_sums));
  const bool screened = screens.count > 0 && (always || tuning::worth_screening(keys.rows, k));
  if (queries.rows == 0) {
    return codes == nullptr ? find_nonfinite({keys, {}}, threads, interrupt) : -1;
  }
  threads = useful_threads(threads, queries.rows, keys.rows, keys.cols);
  NonFiniteRow nonfinite;
  NonFiniteRow* check = codes == nullptr ? &nonfinite : nullptr;
  float* values = call.values.data;
  int64_t* indices = call.indices.data;
  *call.survivors.data = queries.rows * keys.rows;
  if (screened) {
    *call.survivors.data = screened_topk(isa, queries, keys, screens, allowed, k, check, values,
                                         indices, threads, interrupt);
  } else {
    exact_topk(isa, queries, keys, allowed, k, check, values, indices, threads, interrupt);
  }
  return nonfinite.any() ? queries.rows + nonfinite.row() : -1;
}

}  // namespace fastclip::cpu
