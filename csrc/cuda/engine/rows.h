// What is done to rows before any search.
#pragma once

#include "cuda/arch/runtime.h"
#include "fastclip/matrix.h"

namespace fastclip::cuda {

// *row becomes the lowest row that holds a NaN or an infinity, or some number beyond the last row.
void find_nonfinite(const Matrix& rows, int64_t* row, Stream stream);

// Codes [rows padded to whole panels, width] and bounds [3, padded] of keys, centred on `center`:
// the arrays of ScreenKeys, but that the codes are at code_offset (arch/code_layout.h).
void pack(const Matrix& keys, const float* center, uint8_t* codes, float* bounds, Stream stream);

}  // namespace fastclip::cuda
