#include <algorithm>

#include "cuda/arch/value_tile.cuh"
#include "cuda/engine/split_rows.cuh"
#include "cuda/engine/workspace.h"
#include "cuda/tuning.h"
#include "fastclip/ops/cache_logits.h"

namespace fastclip::cuda {
namespace {

// The weights of a block of queries and keys are kept in device memory between two products. Sums
// over kSumKeys keys are computed in float32 and added in float64, in order.
using Tuned = tuned::CacheLogits;
constexpr int64_t kSumKeys = Tuned::kSumKeys;

// At least one multiple.
int64_t up_to(int64_t x, int64_t multiple_of) {
  return round_up(std::max<int64_t>(x, 1), multiple_of);
}

struct Memory {
  Memory(void* workspace, const Matrix& all_queries, const Matrix& all_keys, int64_t num_columns,
         int64_t at_once)
      : queries(up_to(at_once, ValueTile::kRows)),
        keys(std::min(up_to(all_keys.rows, kSumKeys), up_to(Tuned::kWeights / queries, kSumKeys))),
        parts(keys / kSumKeys),
        columns(std::min(up_to(num_columns, ValueTile::kColumns),
                         up_to(Tuned::kSums / (queries * parts), ValueTile::kColumns))),
        with_low(!both_are_short(all_queries, all_keys)),
        all(workspace),
        largest(all.take<float>(2)),
        split_queries(take_split_rows(all, at_once, all_keys.cols, with_low)),
        split_keys(take_split_rows(all, std::min(keys, all_keys.rows), all_keys.cols, with_low)),
        weights(all.take<float>(queries * keys)),
        sums(all.take<float>(queries * parts * columns)),
        totals(all.take<double>(queries * columns)) {}

  int64_t queries, keys, parts, columns;  // of a block
  bool with_low;
  Workspace all;
  float* largest;  // lengths
  SplitRows split_queries, split_keys;
  float* weights;  // [queries, keys]
  float* sums;     // [parts, queries, columns]
  double* totals;  // [queries, columns]
};

// weights[i, j] = exp(-beta (1 - score)), 0 beyond the last key.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    weigh(Tile tile, int64_t keys, float beta, Precision precision, bool for_enough, float* weights,
          int64_t pitch) {
  auto& shared = *dynamic_shared<typename Tile::Shared>();
  if (precision.enough() != for_enough) return;
  const int64_t first_query = int64_t{blockIdx.x} * Tile::kRows;
  const int64_t first_key = int64_t{blockIdx.y} * Tile::kColumns;
  float products[Tile::kSide][Tile::kSide];
  tile.multiply(first_query, first_key, shared, products);
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
    float* row = weights + (first_query + Tile::row(i)) * pitch + first_key;
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) {
      const bool there = first_key + Tile::column(j) < keys;
      row[Tile::column(j)] = there ? expf(beta * (products[i][j] - 1.0f)) : 0.0f;
    }
  }
}

template <class Tile>
void launch_weigh(const Tile& tile, float beta, const Precision& precision, bool for_enough,
                  const Memory& memory, Stream stream) {
  launch(weigh<Tile>,
         dim3(ceil_div<int64_t>(tile.row_count(), Tile::kRows),
              ceil_div<int64_t>(tile.column_count(), Tile::kColumns)),
         dim3(Tile::kThreads), sizeof(typename Tile::Shared), stream, tile, tile.column_count(),
         beta, precision, for_enough, memory.weights, memory.keys);
}

// sums[z, i, c] = sum over the keys of part z of weights[i, j] values[j, c].
__global__ void __launch_bounds__(ValueTile::kThreads, 1)
    sum_values(Matrix weights, Matrix values, int64_t first_column, float* sums, int64_t queries,
               int64_t columns) {
  using T = ValueTile;
  __shared__ __align__(16) T::Shared shared;
  const int64_t first_query = int64_t{blockIdx.x} * T::kRows;
  const int64_t column = int64_t{blockIdx.y} * T::kColumns;
  const int64_t first_key = blockIdx.z * kSumKeys;
  const int64_t last_key = min(first_key + kSumKeys, values.rows);
  Matrix part = weights;
  part.data += first_key * size_of(DType::kFloat32);
  part.cols = last_key - first_key;
  float products[T::kSide][T::kSide];
  multiply<false>(RowSide(part, first_query),
                  ColumnSide(values.slice(first_key, last_key), first_column + column),
                  last_key - first_key, shared, products);
#pragma unroll
  for (int i = 0; i < T::kSide; ++i) {
    float* row = sums + (blockIdx.z * queries + first_query + T::row(i)) * columns + column;
#pragma unroll
    for (int j = 0; j < T::kSide; ++j) row[T::column(j)] = products[i][j];
  }
}

// totals[i, c] += sum over z of sums[z, i, c]; `out` is written with the last block of keys.
__global__ void add_sums(const float* sums, int64_t parts, int64_t queries, int64_t columns,
                         bool first, double* totals, bool last, int64_t out_rows,
                         int64_t out_columns, float* out, int64_t out_pitch) {
  const int64_t at = global_thread();
  const int64_t i = at / columns, c = at % columns;
  if (i >= out_rows || c >= out_columns) return;
  double total = first ? 0 : totals[at];
  for (int64_t z = 0; z < parts; ++z) total += sums[z * queries * columns + at];
  totals[at] = total;
  if (last) out[i * out_pitch + c] = static_cast<float>(total);
}

}  // namespace

Room cache_logits_room(const CacheLogitsCall& call, int64_t most) {
  const int64_t queries = rows_at_once(call.queries.rows, tuning().cache_queries, most);
  return {queries, Memory(nullptr, call.queries, call.keys, call.values.cols, queries).all.bytes()};
}

void cache_logits(const CacheLogitsCall& call, int64_t at_once, void* workspace, Stream stream) {
  const auto &queries = call.queries, &keys = call.keys, &values = call.values;
  const double beta = call.beta;
  float* out = call.out.data;
  if (keys.rows == 0) return zero(out, queries.rows * values.cols * sizeof(float), stream);
  Memory memory(workspace, queries, keys, values.cols, at_once);
  const Matrix weights{reinterpret_cast<const char*>(memory.weights), DType::kFloat32,
                       memory.queries, memory.keys, memory.keys};
  const Precision precision{lost_factor(beta, keys.cols), memory.largest};
  const auto sharpness = static_cast<float>(beta);
  const auto tiles = [](int64_t count) { return ceil_div<int64_t>(count, ValueTile::kRows); };
  zero(memory.largest, 2 * sizeof(float), stream);
  launch_largest_length(queries, memory.largest, stream);
  launch_largest_length(keys, memory.largest + 1, stream);
  for (int64_t i = 0; i < queries.rows; i += at_once) {
    const Matrix some_queries = queries.slice(i, std::min(i + at_once, queries.rows));
    launch_split(some_queries, memory.split_queries, stream);
    for (int64_t c = 0; c < values.cols; c += memory.columns) {
      const int64_t columns = std::min(memory.columns, values.cols - c);
      for (int64_t j = 0; j < keys.rows; j += memory.keys) {
        const int64_t last = std::min(j + memory.keys, keys.rows);
        const int64_t parts = ceil_div(last - j, kSumKeys);
        const Matrix some_keys = keys.slice(j, last);
        launch_split(some_keys, memory.split_keys, stream);
        visit_split_tile(memory.split_queries, memory.split_keys, [&](const auto& tile) {
          launch_weigh(tile, sharpness, precision, true, memory, stream);
        });
        launch_weigh(FloatTile<false>(some_queries, some_keys), sharpness, precision, false, memory,
                     stream);
        launch(sum_values, dim3(tiles(some_queries.rows), tiles(columns), parts),
               dim3(ValueTile::kThreads), 0, stream, weights, values.slice(j, last), c, memory.sums,
               memory.queries, memory.columns);
        launch(add_sums, blocks_for(some_queries.rows * memory.columns), tuned::kThreads, 0, stream,
               memory.sums, parts, memory.queries, memory.columns, j == 0, memory.totals,
               last == keys.rows, some_queries.rows, columns, out + i * values.cols + c,
               values.cols);
      }
    }
  }
}

}  // namespace fastclip::cuda
