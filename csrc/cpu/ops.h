// The operations on CPU. Inputs are checked by the caller: equal widths, finite numbers, k in
// range.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "threads.h"

namespace fastclip::cpu {

// The lowest row that holds a NaN or an infinity, or -1.
int64_t find_nonfinite(const Matrix& rows, int threads, Interrupt& interrupt);

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, int threads,
                Interrupt& interrupt);

// values and indices are [queries.rows, k], rows without gaps. `screen` may be null. Returns how
// many pairs were scored exactly.
int64_t topk(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen, int64_t k,
             float* values, int64_t* indices, int threads, Interrupt& interrupt);

// A key is ahead of a query's threshold with a higher score, or with an equal one and an index
// below ties[query]. Adds how many keys are ahead of each query's threshold to per_query, and for
// how many queries each key is to per_key; either may be null. Returns how many pairs were scored
// exactly.
int64_t count_ahead(const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
                    const float* scores, const int64_t* ties, int64_t* per_query, int64_t* per_key,
                    int threads, Interrupt& interrupt);

// out[i] = exact score of query i and key indices[i].
void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices, float* out,
                 int threads, Interrupt& interrupt);

// Fills the arrays that `screen` points at, padded to whole panels of keys; see ScreenKeys.
void pack(const Matrix& keys, int64_t width, float* center, uint8_t* codes, float* scale,
          float* error, float* norm, int threads, Interrupt& interrupt);

}  // namespace fastclip::cpu
