// What differs between instruction sets: functions on blocks of rows. Everything else
// (threads, reducers, checks) is compiled once, for the baseline.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"

namespace fastclip::cpu {

// float32 kernels for answers that are numbers (value_tile.h). `scores` rows are `ld` apart, and
// everything is padded so that whole vectors may be read and written.
struct ValueKernels {
  // A score function fills scores[i * ld + j] for i < num_queries <= query_tile and j < num_keys
  // rounded up to key_tile, from queries packed in a tile of num_queries and keys packed in tiles
  // of key_tile.
  using Score = void(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
                     int64_t cols, float* scores, int64_t ld);

  int64_t query_tile;
  int64_t key_tile;
  // [rows / tile][cols][tile]; what lies beyond the last row is left as it is.
  void (*pack)(const Matrix& rows, int64_t tile, float* out);
  Score* products;
  Score* distances;  // -||q - k||^2, from the differences
  // Turns products into -||q - k||^2 <= 0, given the squared norms.
  void (*distances_from_products)(float* scores, int64_t count, float query_norm,
                                  const float* key_norms);
  float (*largest)(const float* scores, int64_t count);
  // Sum of exp(scale * (score - shift)).
  double (*sum_exp)(const float* scores, int64_t count, float scale, float shift);
  // score = exp(scale * (score - shift))
  void (*exp)(float* scores, int64_t count, float scale, float shift);
};

struct Kernels {
  const char* name;
  // Rows of a key block must be padded with zero rows to a multiple of this.
  int64_t key_tile;
  // Converts finite rows to float64 in the order that score_block reads:
  // [rows][16 / W][steps][W], element 16 j + W p + w at [p][j][w], zero beyond `cols`.
  void (*load_rows)(const Matrix& rows, double* out);
  // Exact scores of every pair: scores[i * ld + j], i < queries, j < keys rounded up to key_tile.
  void (*score_block)(const double* queries, int64_t num_queries, const double* keys,
                      int64_t num_keys, int64_t steps, float* scores, int64_t ld);
  // The first row that holds a NaN or an infinity, or -1.
  int64_t (*find_nonfinite)(const Matrix& rows);
  ValueKernels value;
};

extern const Kernels kPortable;
#ifdef FASTCLIP_X86
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace fastclip::cpu
