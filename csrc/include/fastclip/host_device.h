// Marks functions that kernels on a GPU share with the CPU.
#pragma once

#ifdef __CUDACC__
#define FASTCLIP_HD __host__ __device__
#else
#define FASTCLIP_HD
#endif
