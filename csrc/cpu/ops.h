// The operations on CPU. Inputs are checked by the caller: equal widths, finite numbers, k in
// range.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"
#include "threads.h"

namespace fastclip::cpu {

// The lowest row that holds a NaN or an infinity, or -1.
int64_t find_nonfinite(const Matrix& rows, int threads, Interrupt& interrupt);

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, int threads,
                Interrupt& interrupt);

// values and indices are [queries.rows, k], rows without gaps.
void topk(const Matrix& queries, const Matrix& keys, int64_t k, float* values, int64_t* indices,
          int threads, Interrupt& interrupt);

// out[i] = log sum_j exp(scale * score of query i and key j), from float32 scores.
void logsumexp(const Matrix& queries, const Matrix& keys, double scale, float* out, int threads,
               Interrupt& interrupt);

// log of the mean of exp(-t ||x_i - y_j||^2) over all pairs, or over i < j if `symmetric`: y must
// then be x.
double gaussian_potential(const Matrix& x, const Matrix& y, bool symmetric, double t, int threads,
                          Interrupt& interrupt);

// out[i, c] = sum_j exp(-beta (1 - score of query i and key j)) values[j, c]; out has no gaps.
void cache_logits(const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
                  float* out, int threads, Interrupt& interrupt);

}  // namespace fastclip::cpu
