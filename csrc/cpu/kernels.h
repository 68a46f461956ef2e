// What differs between instruction sets: three functions on blocks of rows. Everything else
// (threads, reducers, checks) is compiled once, for the baseline.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"

namespace fastclip::cpu {

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
};

extern const Kernels kPortable;
#ifdef FASTCLIP_X86
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace fastclip::cpu
