// The operations on CUDA devices. Inputs are checked by the caller; all memory is the current
// device's and the caller's. Calls return at once: the work is in the stream.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"

struct CUstream_st;  // what cudaStream_t points to

namespace fastclip::cuda {

using Stream = CUstream_st*;

// Whether the kernels run on the CPU.
bool emulated();

// As CUDA counts them: 13000 is 13.0. The driver's is 0 where there is none.
int toolkit_version();
int driver_version();

// 80 for compute capability 8.0.
int capability_of(int device);

// *row becomes the lowest row that holds a NaN or an infinity, or some number beyond the last row.
void find_nonfinite(const Matrix& rows, int64_t* row, Stream stream);

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
void similarity(const Matrix& queries, const Matrix& keys, const MutableMatrix& out, Stream stream);

// out[i] = exact score of query i and key indices[i].
void pair_scores(const Matrix& queries, const Matrix& keys, const int64_t* indices, float* out,
                 Stream stream);

}  // namespace fastclip::cuda
