#include "fastclip/ops/cache_logits.h"

#include "cpu/engine/value_loop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/element.h"

namespace fastclip::cpu {
namespace {

constexpr int64_t kColumns = tuning::kCacheColumns;

// Rows [begin, begin + count) and columns [first, last) of `values`, as the keys of a product over
// the rows: [columns / tile][count][tile].
void pack_columns(const Matrix& values, int64_t begin, int64_t count, int64_t first, int64_t last,
                  int64_t tile, float* out) {
  for (; first < last; first += tile) {
    const int64_t width = std::min(tile, last - first);
    for (int64_t j = 0; j < count; ++j, out += tile) {
      for (int64_t c = 0; c < width; ++c) out[c] = element(values, begin + j, first + c);
    }
  }
}

// One task: the columns [first, last) of the result for some queries.
void sum_columns(const ValueKernels& isa, const Matrix& queries, const Matrix& keys,
                 const Matrix& values, float beta, int64_t first, int64_t last, int64_t key_block,
                 float* out, double* carried, Interrupt& interrupt) {
  const int64_t cols = last - first, ld = round_up(cols, isa.key_tile);
  AlignedBuffer<float> packed_values(key_block * ld);
  AlignedBuffer<float> weights(key_block * isa.query_tile);
  AlignedBuffer<float> sums(isa.query_tile * ld);
  std::vector<double> own(carried == nullptr ? queries.rows * cols : 0);
  double* totals = carried == nullptr ? own.data() : carried + first;
  const int64_t totals_ld = carried == nullptr ? cols : values.cols;
  const auto all_keys = [](int64_t) { return int64_t{0}; };
  value_sweep(
      isa, isa.products, queries, keys, 0, keys.rows, key_block, interrupt, all_keys,
      [&](int64_t query, int64_t rows, float* scores, int64_t block, int64_t begin, int64_t count) {
        if (query == 0) {
          pack_columns(values, begin, count, first, last, isa.key_tile, packed_values.get());
        }
        for (int64_t i = 0; i < rows; ++i) isa.exp(scores + i * block, count, beta, 1.0f);
        const Matrix weight_rows{reinterpret_cast<const char*>(scores), DType::kFloat32, rows,
                                 count, block};
        isa.pack(weight_rows, rows, weights.get());
        isa.products(weights.get(), rows, packed_values.get(), cols, count, sums.get(), ld);
        for (int64_t i = 0; i < rows; ++i) {
          double* total = totals + (query + i) * totals_ld;
          for (int64_t c = 0; c < cols; ++c) total[c] += sums.get()[i * ld + c];
        }
      });
  if (carried != nullptr) return;
  for (int64_t i = 0; i < queries.rows; ++i) {
    std::transform(totals + i * cols, totals + (i + 1) * cols, out + i * values.cols + first,
                   [](double x) { return static_cast<float>(x); });
  }
}

}  // namespace

void cache_logits(const CacheLogitsCall& call, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys, &values = call.values;
  float* out = call.out.data;
  double* totals = call.totals.data;
  const ValueKernels& isa = kernels().value;
  const ValuePlan plan(isa, queries.rows, keys.rows, queries.cols);
  // The keys are not split: partial results for each part of them could take more memory than the
  // result. Blocks of queries may depend on the number of threads, since the sums of a query do not
  // depend on the others.
  const int64_t column_blocks = ceil_div(values.cols, kColumns);
  const int64_t tasks = tuning::kTasksPerThread * threads;  // at least
  const int64_t block = std::clamp<int64_t>(round_up(ceil_div(queries.rows, tasks), isa.query_tile),
                                            isa.query_tile, plan.query_block);
  parallel_for(
      ceil_div(queries.rows, block) * column_blocks, threads, interrupt, [&](int64_t task) {
        const int64_t first_query = task / column_blocks * block;
        const int64_t last_query = std::min(first_query + block, queries.rows);
        const int64_t first = task % column_blocks * kColumns;
        sum_columns(isa, queries.slice(first_query, last_query), keys, values,
                    static_cast<float>(call.beta), first, std::min(first + kColumns, values.cols),
                    plan.key_block, totals == nullptr ? out + first_query * values.cols : nullptr,
                    totals == nullptr ? nullptr : totals + first_query * values.cols, interrupt);
      });
}

}  // namespace fastclip::cpu
