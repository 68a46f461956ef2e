// What the CUDA code asks of the runtime: launches, clearing, properties of the current device.
// With FASTCLIP_EMULATE the same sources compile as C++ and run on the CPU.
#pragma once

#ifdef FASTCLIP_EMULATE
#include "emulator.h"
#else
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "fastclip/host_device.h"
#include "fastclip/integers.h"
#include "fastclip/operation.h"

namespace fastclip::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kWarp = 32;

#ifdef FASTCLIP_EMULATE

inline void fill(void* memory, int byte, size_t bytes, Stream) { std::memset(memory, byte, bytes); }

inline int multiprocessors() { return 3; }
inline int capability() { return emulator::capability(); }
inline size_t shared_limit() { return emulator::shared_limit(); }

template <class... Params>
bool has_code(void (*)(Params...), int) {
  return true;
}

// The dynamic shared memory of the block, aligned to 1,024 bytes.
template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(emulator::dynamic_shared_memory());
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream,
            Args... args) {
  std::tuple<Params...> values(static_cast<Params>(args)...);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  emulator::run(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
}

#else

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears it, so that the next caller does not find it
  throw std::runtime_error(std::string("fastclip: ") + what + ": " + cudaGetErrorString(error));
}

// Sets every byte to `byte`.
inline void fill(void* memory, int byte, size_t bytes, Stream stream) {
  if (bytes > 0) check(cudaMemsetAsync(memory, byte, bytes, stream), "setting device memory");
}

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  check(cudaGetDevice(&device), "current device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "properties of the device");
  return value;
}

inline int multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount); }

// 80 for compute capability 8.0.
inline int capability() {
  return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor) +
         device_attribute(cudaDevAttrComputeCapabilityMinor);
}

// Bytes of shared memory that one block may have if it asks for them.
inline size_t shared_limit() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

// What the code of a kernel takes on the current device: threads of a block, and bytes of dynamic
// shared memory. Whoever asks first lets the kernel have all the shared memory that there is beside
// its static variables, once for all: launches of different sizes from several threads would take
// it away from each other.
struct BlockLimits {
  int threads;
  size_t shared_bytes;
};
BlockLimits block_limits(const void* kernel);

// Whether the build has code of a kernel for the current device: code for others is left empty and
// takes no block of so many threads. The capability does not tell: a driver may be asked to
// compile PTX, which is of older devices, in place of the code that is there.
template <class... Params>
bool has_code(void (*kernel)(Params...), int threads) {
  return block_limits(reinterpret_cast<const void*>(kernel)).threads >= threads;
}

// The dynamic shared memory of the block, aligned to 1,024 bytes.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char fastclip_dynamic_shared[];
  return reinterpret_cast<T*>(fastclip_dynamic_shared);
}

// Starts a kernel. An empty grid is no error: there is nothing to do.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
            Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const auto* entry = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 0 && shared_bytes > block_limits(entry).shared_bytes) {
    throw std::runtime_error("fastclip: a kernel needs " + std::to_string(shared_bytes) +
                             " bytes of shared memory, this device has " +
                             std::to_string(block_limits(entry).shared_bytes) + " for it");
  }
  std::tuple<Params...> values(static_cast<Params>(args)...);
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))...};
        check(cudaLaunchKernel(entry, grid, block, pointers, shared_bytes, stream),
              "launch of a kernel");
      },
      values);
}

#endif

inline void zero(void* memory, size_t bytes, Stream stream) { fill(memory, 0, bytes, stream); }

}  // namespace fastclip::cuda
