// What this build of the kernels and the machine are.
#pragma once

namespace fastclip::cuda {

// Whether the kernels run on the CPU.
bool emulated();

// As CUDA counts them: 13000 is 13.0. The driver's is 0 where there is none.
int toolkit_version();
int driver_version();

// 80 for compute capability 8.0.
int capability_of(int device);

}  // namespace fastclip::cuda
