// The host's side of launches on two devices whose runtime refuses what CUDA's would.
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/arch/device.h"
#include "expect.h"

using namespace fastclip::cuda;

namespace {

constexpr int kStatic = 1072;  // bytes of each kernel's static shared memory
constexpr size_t kUnasked = 48 * 1024;
constexpr size_t kMost[] = {163 * 1024, 99 * 1024};  // of a block, by device

thread_local int device = 0;
std::atomic<int> attributes_asked = 0, launches = 0;
std::mutex mutex;
std::map<std::pair<int, const void*>, size_t> allowed;  // dynamic shared memory

void kernel(int) {}
void empty_kernel(float) {}  // of another architecture

std::string error_of(void (*tried)(int), size_t bytes) {
  try {
    launch(tried, 1, 128, bytes, nullptr, 1);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "refused"; }
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGetDevice(int* current) {
  *current = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int of) {
  *value = static_cast<int>(kMost[of]);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* of) {
  ++attributes_asked;
  const bool is_empty = of == reinterpret_cast<const void*>(empty_kernel) && device == 1;
  *attributes = {kStatic, is_empty ? 1 : 128};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* of, cudaFuncAttribute, int bytes) {
  if (bytes + kStatic > static_cast<int>(kMost[device])) return cudaErrorInvalidValue;
  const std::lock_guard lock(mutex);
  allowed[{device, of}] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* of, dim3, dim3, void**, size_t bytes, cudaStream_t) {
  ++launches;
  const std::lock_guard lock(mutex);
  const auto asked = allowed.find({device, of});
  const size_t most = asked == allowed.end() ? kUnasked - kStatic : asked->second;
  return bytes <= most ? cudaSuccess : cudaErrorInvalidValue;
}

int main() {
  // Static variables count: 48 KB of dynamic memory are too much for a kernel that has some.
  expect(error_of(kernel, kUnasked).empty(), "48 KB beside static variables");
  expect(error_of(kernel, kMost[0] - kStatic).empty(), "all there is");
  const int before = launches;
  const std::string error = error_of(kernel, kMost[0] - kStatic + 1);
  expect(error ==
             "fastclip: a kernel needs 165841 bytes of shared memory, this device has 165840 "
             "for it",
         "too much is refused by name");
  expect(launches == before, "and not started");

  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&failed, t] {
      device = t % 2;
      for (int i = 0; i < 1000; ++i) {
        const size_t bytes = i % 2 == 0 ? 50 * 1024 : kMost[device] - kStatic;
        if (!error_of(kernel, bytes).empty()) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect(failed == 0, "threads do not take each other's shared memory away");
  expect(attributes_asked == 2, "a kernel is looked at once on a device");

  expect(has_code(kernel, 128) && !has_code(kernel, 129), "as many threads as a kernel has");
  expect(has_code(empty_kernel, 128), "a kernel with code for the device");
  device = 1;
  expect(!has_code(empty_kernel, 128), "a kernel without code for the device");
  std::puts("passed");
}
