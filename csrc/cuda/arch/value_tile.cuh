// Products of a tile of rows with a tile of columns in float32, in the registers of a block.
//
// A product is summed as on the CPU (cpu/isa/value_tile.h): chunks of kChunk terms, each summed one
// after the other, so that its error is at most (kChunk + d / kChunk) * 2^-24 * sum |q_i k_i|, and
// does not depend on the tile it lies in.
#pragma once

#include "cuda/arch/device.h"
#include "cuda/tuning.h"
#include "fastclip/element.h"
#include "fastclip/float16.h"
#include "fastclip/matrix.h"

namespace fastclip::cuda {

// Each of 256 threads holds 8 x 8 products. A warp covers 32 rows and 64 columns, so that its lanes
// read 64 or 128 distinct bytes of shared memory at once.
struct ValueTile : tuned::ValueTile {
  static constexpr int kChunk = 64;
  static constexpr int kPitch = 132;  // numbers from one term to the next

  struct Shared {
    float rows[2][kTileK][kPitch];
    float columns[2][kTileK][kPitch];
  };
  static_assert(kRows == 128 && kColumns == 128 && kThreads == 256 && kSide == 8 && kTileK == 16,
                "as row(), column() and the sides have it");

  // The rows and columns of the calling thread.
  __device__ static int row(int i) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    return warp / 2 * 32 + lane / 8 * 4 + i / 4 * 16 + i % 4;
  }
  __device__ static int column(int j) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    return warp % 2 * 64 + lane % 8 * 4 + j / 4 * 32 + j % 4;
  }
  // Which of the 16 threads with the same rows it is.
  __device__ static int thread_in_row() { return threadIdx.x / kWarp % 2 * 8 + threadIdx.x % 8; }
};

// Loads eight adjacent elements of a row at a time from device memory into registers.
class RowReader {
 public:
  __device__ explicit RowReader(const Matrix& m)
      : m_(m),
        aligned_(reinterpret_cast<uintptr_t>(m.data) % 16 == 0 &&
                 m.row_stride * size_of(m.dtype) % 16 == 0) {}

  // Zeros beyond the ends of the matrix.
  __device__ void read(int64_t row, int64_t column, float (&out)[8]) const {
    if (row < m_.rows && column + 8 <= m_.cols && aligned_) {
      const char* from = m_.row(row) + column * size_of(m_.dtype);
      if (m_.dtype == DType::kFloat32) {
        const float4 a = reinterpret_cast<const float4*>(from)[0];
        const float4 b = reinterpret_cast<const float4*>(from)[1];
        const float read[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        for (int i = 0; i < 8; ++i) out[i] = read[i];
      } else {
        const uint4 a = *reinterpret_cast<const uint4*>(from);
        const uint32_t pairs[4] = {a.x, a.y, a.z, a.w};
        for (int i = 0; i < 8; ++i) {
          const auto bits = static_cast<uint16_t>(pairs[i / 2] >> (i % 2 * 16));
          out[i] = m_.dtype == DType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
        }
      }
    } else {
      for (int i = 0; i < 8; ++i) {
        out[i] = row < m_.rows && column + i < m_.cols ? element(m_, row, column + i) : 0.0f;
      }
    }
  }

 private:
  Matrix m_;
  bool aligned_;
};

// A side of the tile whose terms are adjacent: rows [first, first + 128) of a matrix.
class RowSide {
 public:
  __device__ RowSide(const Matrix& m, int64_t first)
      : reader_(m), row_(first + threadIdx.x % 128), column_(threadIdx.x / 128 * 8) {}

  __device__ void fetch(int64_t term) { reader_.read(row_, term + column_, held_); }

  __device__ void store(float (*shared)[ValueTile::kPitch]) const {
    for (int i = 0; i < 8; ++i) shared[column_ + i][threadIdx.x % 128] = held_[i];
  }

 private:
  RowReader reader_;
  int64_t row_;
  int column_;
  float held_[8];
};

// A side whose terms are one below the other: columns [first, first + 128) of a matrix.
class ColumnSide {
 public:
  __device__ ColumnSide(const Matrix& m, int64_t first)
      : reader_(m), term_(threadIdx.x / 16), column_(threadIdx.x % 16 * 8), first_(first) {}

  __device__ void fetch(int64_t term) { reader_.read(term + term_, first_ + column_, held_); }

  __device__ void store(float (*shared)[ValueTile::kPitch]) const {
    for (int i = 0; i < 8; ++i) shared[term_][column_ + i] = held_[i];
  }

 private:
  RowReader reader_;
  int term_, column_;
  int64_t first_;
  float held_[8];
};

// products[i][j] = sum over `terms` terms of row(i) times column(j) or, if kDistance, minus the sum
// of the squares of their differences. A barrier separates this from earlier uses of `shared`, and
// one follows its last use here.
template <bool kDistance, class Rows, class Columns>
__device__ __forceinline__ void multiply(Rows rows, Columns columns, int64_t terms,
                                         ValueTile::Shared& shared,
                                         float (&products)[ValueTile::kSide][ValueTile::kSide]) {
  using T = ValueTile;
  float chunk[T::kSide][T::kSide];
#pragma unroll
  for (int i = 0; i < T::kSide; ++i) {
#pragma unroll
    for (int j = 0; j < T::kSide; ++j) products[i][j] = chunk[i][j] = 0;
  }
  const int64_t k_tiles = ceil_div<int64_t>(terms, T::kTileK);
  if (k_tiles == 0) return;
  rows.fetch(0);
  columns.fetch(0);
  __syncthreads();
  rows.store(shared.rows[0]);
  columns.store(shared.columns[0]);
  __syncthreads();
  const int row = T::row(0), column = T::column(0);
  for (int64_t k = 0; k < k_tiles; ++k) {
    const bool more = k + 1 < k_tiles;
    if (more) {
      rows.fetch((k + 1) * T::kTileK);
      columns.fetch((k + 1) * T::kTileK);
    }
    const auto* left = shared.rows[k % 2];
    const auto* right = shared.columns[k % 2];
#pragma unroll
    for (int t = 0; t < T::kTileK; ++t) {
      float a[T::kSide], b[T::kSide];
#pragma unroll
      for (int i = 0; i < T::kSide; ++i) {
        a[i] = left[t][row + i / 4 * 16 + i % 4];
        b[i] = right[t][column + i / 4 * 32 + i % 4];
      }
#pragma unroll
      for (int i = 0; i < T::kSide; ++i) {
#pragma unroll
        for (int j = 0; j < T::kSide; ++j) {
          if constexpr (kDistance) {
            const float difference = a[i] - b[j];
            chunk[i][j] = fmaf(-difference, difference, chunk[i][j]);
          } else {
            chunk[i][j] = fmaf(a[i], b[j], chunk[i][j]);
          }
        }
      }
    }
    if (!more || k % (T::kChunk / T::kTileK) == T::kChunk / T::kTileK - 1) {
#pragma unroll
      for (int i = 0; i < T::kSide; ++i) {
#pragma unroll
        for (int j = 0; j < T::kSide; ++j) {
          products[i][j] += chunk[i][j];
          chunk[i][j] = 0;
        }
      }
    }
    if (more) {
      rows.store(shared.rows[(k + 1) % 2]);
      columns.store(shared.columns[(k + 1) % 2]);
    }
    __syncthreads();
  }
}

// The rows of two matrices against each other.
template <bool kDistance>
class FloatTile : public ValueTile {
 public:
  FloatTile(const Matrix& rows, const Matrix& columns) : rows_(rows), columns_(columns) {}

  int64_t row_count() const { return rows_.rows; }
  int64_t column_count() const { return columns_.rows; }

  __device__ __forceinline__ void multiply(int64_t first_row, int64_t first_column, Shared& shared,
                                           float (&products)[kSide][kSide]) const {
    cuda::multiply<kDistance>(RowSide(rows_, first_row), RowSide(columns_, first_column),
                              rows_.cols, shared, products);
  }

 private:
  Matrix rows_, columns_;
};

}  // namespace fastclip::cuda
