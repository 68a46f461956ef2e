// The emulator does what the PTX manual says, and finds what it is there to find.
#include <cstdio>
#include <string>
#include <vector>

#include "../expect.h"
#include "cuda/arch/ptx_sm90.h"

using namespace fastclip::cuda;

namespace {

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
__global__ void mma_kernel(const int8_t* a, const int8_t* b, int* c) {
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
  mma_s8(d, x, first);
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

constexpr int kLeft = 64 * 32, kRight = 256 * 32;  // bytes of the operands of wgmma
constexpr int kRowGroup = 256, kColumns = 128;     // core matrices: 2 of the same rows, then others

struct Hopper {
  uint8_t left[2 * kLeft], right[2 * kRight];
  MemoryBarrier full[2];
};

enum class Forgotten { nothing, copy_wait, fence, product_wait, arrival };

// c[64, 256] = the sum over two steps of a[64, 32] b[256, 32]^T, of core matrices in memory.
__global__ void wgmma_kernel(const uint8_t* a, const uint8_t* b, int* c, Forgotten forgotten) {
  Hopper& shared = *dynamic_shared<Hopper>();
  const int thread = threadIdx.x;
  if (thread == 0) {
    for (MemoryBarrier& full : shared.full) barrier_init(full, 1);
    barrier_init_fence();
  }
  __syncthreads();
  if (thread == 96) {
    for (int s = 0; s < 2; ++s) {
      bulk_copy(shared.left + s * kLeft, a + s * kLeft, kLeft, shared.full[s]);
      bulk_copy(shared.right + s * kRight, b + s * kRight, kRight, shared.full[s]);
      if (forgotten == Forgotten::arrival) continue;
      barrier_arrive_expect(shared.full[s], kLeft + kRight);
    }
  }
  int dots[4][8][4];
  if (forgotten != Forgotten::fence) wgmma_fence();
  for (int s = 0; s < 2; ++s) {
    if (forgotten != Forgotten::copy_wait) barrier_wait(shared.full[s], 0);
    wgmma_s8(dots, wgmma_operand(shared_address(shared.left + s * kLeft), kColumns, kRowGroup),
             wgmma_operand(shared_address(shared.right + s * kRight), kColumns, kRowGroup), s > 0);
    wgmma_commit();
  }
  if (forgotten == Forgotten::product_wait) {
    wgmma_wait<1>();
  } else {
    wgmma_finish(dots);
  }
  const int lane = thread % 32, warp = thread / 32;
  for (int n = 0; n < 32; ++n) {
    for (int i = 0; i < 4; ++i) {
      c[(16 * warp + 8 * (i / 2) + lane / 4) * 256 + 8 * n + 2 * (lane % 4) + i % 2] =
          dots[n / 8][n % 8][i];
    }
  }
  wgmma_finish(dots);
  barrier_wait(shared.full[1], 0);
}

__global__ void arrivals_kernel() {
  auto* barrier = dynamic_shared<MemoryBarrier>();
  if (threadIdx.x == 0) barrier_init(*barrier, 2);
  __syncthreads();
  for (int phase = 0; phase < 5; ++phase) {
    barrier_arrive(*barrier);
    barrier_wait(*barrier, phase % 2);
  }
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

// The error of a launch, empty if there was none.
template <class Launch>
std::string error_of(Launch launch) {
  try {
    launch();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

void test_wgmma() {
  alignas(16) static uint8_t a[2 * kLeft];
  alignas(16) static uint8_t b[2 * kRight];
  for (int i = 0; i < 2 * kLeft; ++i) a[i] = static_cast<uint8_t>(i * 37 % 251);
  for (int i = 0; i < 2 * kRight; ++i) b[i] = static_cast<uint8_t>(i * 91 % 253);
  static int c[64 * 256];
  const auto run = [&](Forgotten forgotten) {
    return error_of(
        [&] { launch(wgmma_kernel, 1, 128, sizeof(Hopper), nullptr, a, b, c, forgotten); });
  };
  const auto at = [](int row, int k) {
    return row / 8 * kRowGroup + k / 16 * kColumns + row % 8 * 16 + k % 16;
  };
  const auto right = [&] {
    for (int i = 0; i < 64; ++i) {
      for (int j = 0; j < 256; ++j) {
        int dot = 0;
        for (int s = 0; s < 2; ++s) {
          for (int k = 0; k < 32; ++k) {
            dot += static_cast<int8_t>(a[s * kLeft + at(i, k)]) *
                   static_cast<int8_t>(b[s * kRight + at(j, k)]);
          }
        }
        if (c[256 * i + j] != dot) return false;
      }
    }
    return true;
  };
  expect(run(Forgotten::nothing).empty() && right(), "wgmma");
  expect(run(Forgotten::copy_wait).empty() && !right(), "a forgotten wait for a bulk copy shows");
  expect(run(Forgotten::product_wait).empty() && !right(), "a forgotten wait for products shows");
  expect(run(Forgotten::fence).find("without a fence") != std::string::npos, "a forgotten fence");
  expect(run(Forgotten::arrival).find("for ever") != std::string::npos, "a forgotten arrival");
}

void test_barriers() {
  const auto run = [](int threads) {
    return error_of([&] { launch(arrivals_kernel, 1, threads, sizeof(MemoryBarrier), nullptr); });
  };
  expect(run(2).empty(), "phases of a barrier");
  expect(run(1).find("for ever") != std::string::npos, "a barrier that nobody else comes to");
}

}  // namespace

int main() {
  std::vector<int> numbers(1000);
  for (int i = 0; i < 1000; ++i) numbers[i] = i;
  int sum = 0;
  launch(sum_kernel, 2, 256, 0, nullptr, numbers.data(), &sum, 1000);
  expect(sum == 499500, "sum");

  alignas(16) int8_t a[16 * 32];
  alignas(16) int8_t b[8 * 32];
  for (int i = 0; i < 16 * 32; ++i) a[i] = static_cast<int8_t>(i * 37 % 255 - 127);
  for (int i = 0; i < 8 * 32; ++i) b[i] = static_cast<int8_t>(i * 91 % 256 - 128);
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

  expect(!error_of([] { launch(deadlock_kernel, 1, 64, 0, nullptr); }).empty(),
         "a deadlock is found");

  test_wgmma();
  test_barriers();

  unsigned votes[32];
  launch(votes_kernel, 1, 32, 0, nullptr, votes);
  expect(votes[16] == (0x49240000u ^ 17u), "votes of half a warp");
  std::puts("passed");
}
