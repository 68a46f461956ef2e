// What code without CUDA's headers asks of the runtime: streams, versions, devices.
#pragma once

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

}  // namespace fastclip::cuda
