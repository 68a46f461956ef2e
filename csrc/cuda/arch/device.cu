#include "cuda/arch/device.h"

#ifndef FASTCLIP_EMULATE

#include <map>
#include <mutex>
#include <utility>

namespace fastclip::cuda {

BlockLimits block_limits(const void* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, BlockLimits> known;  // by device and kernel
  int device = 0;
  check(cudaGetDevice(&device), "current device");
  const std::lock_guard lock(mutex);
  const auto [at, is_new] = known.try_emplace({device, kernel});
  if (!is_new) return at->second;
  cudaFuncAttributes attributes{};
  try {
    check(cudaFuncGetAttributes(&attributes, kernel), "attributes of a kernel");
    const size_t bytes = shared_limit() - attributes.sharedSizeBytes;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          "shared memory of a kernel");
    at->second = {attributes.maxThreadsPerBlock, bytes};
  } catch (...) {
    known.erase(at);
    throw;
  }
  return at->second;
}

}  // namespace fastclip::cuda

#endif
