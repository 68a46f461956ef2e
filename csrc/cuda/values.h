// Sums over scores in float32, on CUDA devices; what ops.h says holds here. `*_workspace` says how
// many bytes the workspace of a call needs.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"
#include "ops.h"

namespace fastclip::cuda {

// out[i] = log sum_j exp(scale * score of query i and key j), of `at_once` queries at a time.
int64_t logsumexp_workspace(const Matrix& queries, const Matrix& keys, int64_t at_once);
void logsumexp(const Matrix& queries, const Matrix& keys, double scale, float* out, int64_t at_once,
               void* workspace, Stream stream);

// *out = log of the mean of exp(-t ||x_i - y_j||^2) over all pairs, or over i < j if `symmetric`:
// y must then be x. `centre` is the mean of the rows of y; `at_once` rows of x are taken at a time.
int64_t gaussian_potential_workspace(int64_t x, int64_t y, int64_t cols, bool symmetric,
                                     int64_t at_once);
void gaussian_potential(const Matrix& x, const Matrix& y, bool symmetric, double t,
                        const double* centre, double* out, int64_t at_once, void* workspace,
                        Stream stream);

// out[i, c] = sum_j exp(-beta (1 - score of query i and key j)) values[j, c], of `at_once` queries
// at a time; out has no gaps.
int64_t cache_logits_workspace(const Matrix& queries, const Matrix& keys, int64_t columns,
                               int64_t at_once);
void cache_logits(const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
                  float* out, int64_t at_once, void* workspace, Stream stream);

// means[g] = mean of the rows order[starts[g]] to order[starts[g + 1] - 1] of `keys`, added in
// float64 in a fixed order; no group is empty.
void group_means(const Matrix& keys, const int64_t* order, const int64_t* starts, int64_t groups,
                 float* means, Stream stream);

}  // namespace fastclip::cuda
