#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// The lowest row that holds a NaN or an infinity.
struct FindNonfiniteCall {
  Matrix rows;
  Scalar<int64_t> row;  // on devices: becomes that row, or some number beyond the last
};

namespace cpu {
// Returns the row, -1 if there is none.
int64_t find_nonfinite(const FindNonfiniteCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
void find_nonfinite(const FindNonfiniteCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
