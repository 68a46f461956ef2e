#include <algorithm>

#include "value_tile.cuh"
#include "values.h"
#include "workspace.h"

namespace fastclip::cuda {
namespace {

// The weights of a block of queries and keys are in device memory between two products. Sums over
// kSumKeys keys are computed in float32, these sums added in float64, in order.
constexpr int64_t kSumKeys = 256;
constexpr int64_t kWeights = 1 << 22;        // of a block, about
constexpr int64_t kSums = int64_t{1} << 24;  // of a block, about

int64_t round_up(int64_t x, int64_t to) { return ceil_div(std::max<int64_t>(x, 1), to) * to; }

struct Memory {
  Memory(void* workspace, int64_t at_once, int64_t num_keys, int64_t num_columns)
      : queries(round_up(at_once, ValueTile::kRows)),
        keys(std::min(round_up(num_keys, kSumKeys), round_up(kWeights / queries, kSumKeys))),
        parts(keys / kSumKeys),
        columns(std::min(round_up(num_columns, ValueTile::kColumns),
                         round_up(kSums / (queries * parts), ValueTile::kColumns))),
        all(workspace) {
    weights = all.take<float>(queries * keys);
    sums = all.take<float>(queries * parts * columns);
    totals = all.take<double>(queries * columns);
  }

  int64_t queries, keys, parts, columns;  // of a block
  Workspace all;
  float* weights;  // [queries, keys]
  float* sums;     // [parts, queries, columns]
  double* totals;  // [queries, columns]
};

// weights[i, j] = exp(-beta (1 - score)), 0 for the keys and queries that are not there.
__global__ void __launch_bounds__(ValueTile::kThreads, 1)
    weigh(Matrix queries, Matrix keys, float beta, float* weights, int64_t pitch) {
  using T = ValueTile;
  __shared__ __align__(16) T::Shared shared;
  const int64_t first_query = int64_t{blockIdx.x} * T::kRows;
  const int64_t first_key = int64_t{blockIdx.y} * T::kColumns;
  float products[T::kSide][T::kSide];
  multiply<false>(RowSide(queries, first_query), RowSide(keys, first_key), queries.cols, shared,
                  products);
#pragma unroll
  for (int i = 0; i < T::kSide; ++i) {
    float* row = weights + (first_query + T::row(i)) * pitch + first_key;
#pragma unroll
    for (int j = 0; j < T::kSide; ++j) {
      const bool there = first_key + T::column(j) < keys.rows;
      row[T::column(j)] = there ? expf(beta * (products[i][j] - 1.0f)) : 0.0f;
    }
  }
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
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t i = at / columns, c = at % columns;
  if (i >= out_rows || c >= out_columns) return;
  double total = first ? 0 : totals[at];
  for (int64_t z = 0; z < parts; ++z) total += sums[z * queries * columns + at];
  totals[at] = total;
  if (last) out[i * out_pitch + c] = static_cast<float>(total);
}

}  // namespace

int64_t cache_logits_workspace(int64_t at_once, int64_t keys, int64_t columns) {
  return Memory(nullptr, at_once, keys, columns).all.bytes();
}

void cache_logits(const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
                  float* out, int64_t at_once, void* workspace, Stream stream) {
  if (keys.rows == 0) return zero(out, queries.rows * values.cols * sizeof(float), stream);
  const Memory memory(workspace, at_once, keys.rows, values.cols);
  const Matrix weights{reinterpret_cast<const char*>(memory.weights), DType::kFloat32,
                       memory.queries, memory.keys, memory.keys};
  const dim3 threads(ValueTile::kThreads);
  const auto tiles = [](int64_t count) { return ceil_div<int64_t>(count, ValueTile::kRows); };
  for (int64_t i = 0; i < queries.rows; i += at_once) {
    const Matrix some_queries = queries.slice(i, std::min(i + at_once, queries.rows));
    for (int64_t c = 0; c < values.cols; c += memory.columns) {
      const int64_t columns = std::min(memory.columns, values.cols - c);
      for (int64_t j = 0; j < keys.rows; j += memory.keys) {
        const int64_t last = std::min(j + memory.keys, keys.rows);
        const int64_t parts = ceil_div(last - j, kSumKeys);
        launch(weigh, dim3(tiles(some_queries.rows), tiles(last - j)), threads, 0, stream,
               some_queries, keys.slice(j, last), static_cast<float>(beta), memory.weights,
               memory.keys);
        launch(sum_values, dim3(tiles(some_queries.rows), tiles(columns), parts), threads, 0,
               stream, weights, values.slice(j, last), c, memory.sums, memory.queries,
               memory.columns);
        constexpr int kThreads = 256;
        launch(add_sums, dim3(ceil_div<int64_t>(some_queries.rows * memory.columns, kThreads)),
               dim3(kThreads), 0, stream, memory.sums, parts, memory.queries, memory.columns,
               j == 0, memory.totals, last == keys.rows, some_queries.rows, columns,
               out + i * values.cols + c, values.cols);
      }
    }
  }
}

}  // namespace fastclip::cuda
