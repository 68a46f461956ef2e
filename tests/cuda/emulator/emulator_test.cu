// The emulator does what the PTX manual says, and finds what it is there to find.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "ptx.h"

using namespace fastclip::cuda;

namespace {

void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}

__global__ void sum_kernel(const int* in, int* out, int count) {
  __shared__ int parts[8];
  int sum = 0;
  for (int i = threadIdx.x + blockIdx.x * blockDim.x; i < count; i += blockDim.x * gridDim.x) {
    sum += in[i];
  }
  for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(kAllLanes, sum, half);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < 8; ++w) sum += parts[w];
    atomicAdd(out, sum);
  }
}

// c[16, 8] = a[16, 32] b[8, 32]^T through copies, ldmatrix and mma.
__global__ void mma_kernel(const int8_t* a, const uint8_t* b, int* c) {
  auto* left = dynamic_shared<char>();
  char* right = left + 16 * 32;
  const int lane = threadIdx.x;
  cp_async_16(left + 16 * lane, a + 16 * lane);
  cp_async_16(right + 16 * lane, b + 16 * lane, lane < 16);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  uint32_t x[4];
  uint32_t y[4];
  // Tiles of 8 rows of 16 bytes: rows 0-7 and 8-15 of the left half, then of the right half.
  ldmatrix_x4(x, left + 32 * (lane % 16) + 16 * (lane / 16));
  ldmatrix_x4(y, right + 32 * (lane % 8) + 16 * (lane / 8 % 2) + 256 * (lane / 16));
  int d[4] = {};
  const uint32_t first[2] = {y[0], y[1]};
  mma_s8u8(d, x, first);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}

__global__ void forgotten_barrier_kernel(int* wrong) {
  auto* shared = dynamic_shared<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  const int other = shared[threadIdx.x ^ 33];
  if (other != static_cast<int>(threadIdx.x ^ 33)) atomicAdd(wrong, 1);
}

__global__ void forgotten_wait_kernel(const int4* in, int* out) {
  auto* shared = dynamic_shared<int4>();
  cp_async_16(shared, in);
  cp_async_commit();
  cp_async_wait<1>();
  *out = shared->x;
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 32) {
    __syncwarp();
    __syncthreads();
  } else {
    __shfl_sync(kAllLanes, 1, 0);
    if (threadIdx.x == 40) named_barrier(1, 32);
  }
}

__global__ void votes_kernel(unsigned* out) {
  const int lane = threadIdx.x;
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  out[lane] = __ballot_sync(half, lane % 3 == 0) ^
              static_cast<unsigned>(__shfl_down_sync(half, lane, 1, 16));
  if (lane % 2 == 0) return;
  if (lane < 16) out[lane] = __reduce_max_sync(0x0000ffffu, out[lane]);  // half of them has ended
}

}  // namespace

int main() {
  std::vector<int> numbers(1000);
  for (int i = 0; i < 1000; ++i) numbers[i] = i;
  int sum = 0;
  launch(sum_kernel, 2, 256, 0, nullptr, numbers.data(), &sum, 1000);
  expect(sum == 499500, "sum");

  alignas(16) int8_t a[16 * 32];
  alignas(16) uint8_t b[8 * 32];
  for (int i = 0; i < 16 * 32; ++i) a[i] = static_cast<int8_t>(i * 37 % 255 - 127);
  for (int i = 0; i < 8 * 32; ++i) b[i] = static_cast<uint8_t>(i * 91 % 256);
  int c[16 * 8];
  launch(mma_kernel, 1, 32, 16 * 32 + 2 * 8 * 32, nullptr, a, b, c);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      int dot = 0;
      for (int k = 0; k < 32; ++k) dot += a[32 * i + k] * b[32 * j + k];
      expect(c[8 * i + j] == dot, "mma");
    }
  }

  int wrong = 0;
  launch(forgotten_barrier_kernel, 4, 64, 64 * sizeof(int), nullptr, &wrong);
  expect(wrong > 0, "a forgotten barrier shows");

  const int4 in{1, 2, 3, 4};
  int out = 0;
  launch(forgotten_wait_kernel, 1, 1, sizeof(int4), nullptr, &in, &out);
  expect(out != 1, "a forgotten wait shows");

  bool found = false;
  try {
    launch(deadlock_kernel, 1, 64, 0, nullptr);
  } catch (const std::exception&) {
    found = true;
  }
  expect(found, "a deadlock is found");

  unsigned votes[32];
  launch(votes_kernel, 1, 32, 0, nullptr, votes);
  expect(votes[16] == (0x49240000u ^ 17u), "votes of half a warp");
  std::puts("the emulator works");
}
