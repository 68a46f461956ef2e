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

// Fills the arrays that `screen` points at, padded to whole panels of keys; see ScreenKeys.
void pack(const Matrix& keys, int64_t width, float* center, uint8_t* codes, float* scale,
          float* error, float* norm, int threads, Interrupt& interrupt);

}  // namespace fastclip::cpu
