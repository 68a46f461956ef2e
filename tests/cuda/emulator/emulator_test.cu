// The emulator does what the PTX manual says, and finds what it is there to find.
#include <cstdio>
#include <cstdlib>
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

enum class Forgotten {
  nothing,
  copy_wait,
  fence,
  product_wait,
  arrival,
  init_fence,
  late_init_fence,
  threads_barrier,
  initialisation,
  // by one warp alone:
  add,
  operand,
  product,
  commit,
};

// c[64, 256] = the sum over two steps of a[64, 32] b[256, 32]^T, of core matrices in memory.
__global__ void wgmma_kernel(const uint8_t* a, const uint8_t* b, int* c, Forgotten forgotten) {
  Hopper& shared = *dynamic_shared<Hopper>();
  const int thread = threadIdx.x;
  const bool other = thread / 32 == 2;
  if (thread == 0 && forgotten != Forgotten::initialisation) {
    for (MemoryBarrier& full : shared.full) barrier_init(full, 1);
    if (forgotten != Forgotten::init_fence && forgotten != Forgotten::late_init_fence) {
      barrier_init_fence();
    }
  }
  if (forgotten != Forgotten::threads_barrier) __syncthreads();
  if (thread == 0 && forgotten == Forgotten::late_init_fence) barrier_init_fence();
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
    if (forgotten == Forgotten::product && other) continue;
    const int at = forgotten == Forgotten::operand && other ? 0 : s;
    wgmma_s8(dots, wgmma_operand(shared_address(shared.left + at * kLeft), kColumns, kRowGroup),
             wgmma_operand(shared_address(shared.right + s * kRight), kColumns, kRowGroup),
             s > 0 && !(forgotten == Forgotten::add && other));
    if (forgotten != Forgotten::commit || !other || s > 0) wgmma_commit();
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

// What one block leaves in static memory, or in that of another one, nobody finds.
template <class T>
__global__ void static_kernel(int* garbage, int* other) {
  __shared__ T number;
  __shared__ int numbers[3];
  const int mine = static_cast<int>(blockIdx.x) + 1;
  if (threadIdx.x == 0) {
    if (number < 0 && numbers[2] < 0) atomicAdd(garbage, 1);
    number = numbers[2] = mine;
  }
  for (int i = 0; i < 50; ++i) {
    __syncthreads();
    if (number != mine || numbers[2] != mine) atomicAdd(other, 1);
  }
}

__global__ void large_static_kernel(int* out) {
  __shared__ int numbers[1000];
  numbers[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = numbers[threadIdx.x];
}

// Blocks that add to a number without an atomic operation, or with one.
__global__ void total_kernel(int* total, bool safe) {
  if (safe) {
    if (threadIdx.x == 0) atomicAdd(total, 1);
    return;
  }
  const int before = *total;
  __syncthreads();
  if (threadIdx.x == 0) *total = before + 1;
}

__global__ void ended_lanes_kernel(unsigned* votes, int* shuffled, int* sum) {
  const int lane = threadIdx.x;
  if (lane % 2 == 1) return;
  votes[lane] = __ballot_sync(kAllLanes, 1);
  shuffled[lane] = __shfl_xor_sync(kAllLanes, lane, 1);
  sum[lane] = __reduce_add_sync(kAllLanes, 1);
}

enum class Registers { right, too_many, none_free, one_warp, not_fewer, warps_differ };

__global__ void registers_kernel(Registers registers) {
  const int warp = threadIdx.x / 32;
  if (warp < 4) {
    if (registers == Registers::none_free) return;
    if (registers == Registers::one_warp && warp > 0) return;
    if (registers == Registers::not_fewer) return fewer_registers<176>();
    if (registers == Registers::warps_differ && warp == 2) return fewer_registers<32>();
    fewer_registers<40>();
  } else if (registers == Registers::too_many) {
    more_registers<240>();
  } else {
    more_registers<232>();
  }
}

// The square of a, which is not exact, plus c: in every spelling, then as one operation.
template <class T>
__global__ void contraction_kernel(T a, T c, T* out) {
  if constexpr (std::is_same_v<T, float>) {
    out[0] = __fadd_rn(__fmul_rn(a, a), c);
    out[1] = __fmul_rn(a, a) + c;
    out[2] = __fadd_rn(a * a, c);
    out[3] = __fadd_rn(c, a * a);
    out[4] = __fsub_rn(a * a, -c);
    out[5] = __fmaf_rn(a, a, c);
  } else {
    out[0] = __dadd_rn(__dmul_rn(a, a), c);
    out[1] = __dmul_rn(a, a) + c;
    out[2] = __dadd_rn(a * a, c);
    out[3] = __dadd_rn(c, a * a);
    out[4] = __dsub_rn(a * a, -c);
    out[5] = __fma_rn(a, a, c);
  }
}

template <class T>
__global__ void fused_kernel(T a, T c, T* out) {
  *out = a * a + c;
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

void expect_error(const std::string& error, const char* message) {
  expect(error.find(message) != std::string::npos, message);
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
  const auto finds = [&](Forgotten forgotten, const char* message) {
    expect_error(run(forgotten), message);
  };
  finds(Forgotten::init_fence, "no fence");
  finds(Forgotten::late_init_fence, "no fence");
  finds(Forgotten::threads_barrier, "initial");
  finds(Forgotten::initialisation, "was not initialised");
  finds(Forgotten::add, "disagree: wgmma");
  finds(Forgotten::operand, "disagree: wgmma");
  finds(Forgotten::product, "disagree: wgmma");
  finds(Forgotten::commit, "disagree: wgmma");
}

void test_registers() {
  const auto run = [](Registers registers) {
    return error_of([&] { launch(registers_kernel, 1, 384, 0, nullptr, registers); });
  };
  const auto finds = [&](Registers registers, const char* message) {
    expect_error(run(registers), message);
  };
  expect(run(Registers::right).empty(), "registers that move from one warp-group to two");
  finds(Registers::too_many, "for ever");
  finds(Registers::none_free, "for ever");
  finds(Registers::one_warp, "for ever");
  finds(Registers::not_fewer, "from 168 to 176");
  finds(Registers::warps_differ, "disagree: setmaxnreg.dec");
}

void test_static_memory() {
  for (const char* blocks : {"1", "4"}) {
    setenv("FASTCLIP_EMULATOR_BLOCKS", blocks, 1);
    int garbage = 0, other = 0;
    launch(static_kernel<int>, 20, 64, 0, nullptr, &garbage, &other);
    launch(static_kernel<float>, 20, 64, 0, nullptr, &garbage, &other);
    expect(garbage == 40, "static memory holds garbage where a block begins");
    expect(other == 0, "each block has static memory of its own");
  }
  unsetenv("FASTCLIP_EMULATOR_BLOCKS");
}

void test_blocks() {
  int total = 0;
  launch(total_kernel, 200, 64, 0, nullptr, &total, true);
  expect(total == 200, "blocks that add by atomic operations");
  total = 0;
  launch(total_kernel, 200, 64, 0, nullptr, &total, false);
  expect(total < 200, "a race between blocks shows");
}

void test_sizes() {
  int out[1000];
  const auto error = [&](dim3 grid, dim3 block, size_t shared_bytes) {
    return error_of([&] { launch(large_static_kernel, grid, block, shared_bytes, nullptr, out); });
  };
  const auto refuses = [&](dim3 grid, dim3 block, size_t shared_bytes, const char* message) {
    expect(error(grid, block, shared_bytes).find(message) != std::string::npos, message);
  };
  refuses(1, 1025, 0, "block size");
  refuses(1, dim3(1, 1, 65), 0, "block size");
  refuses(dim3(1, 65536), 1, 0, "grid size");
  refuses(dim3(1, 1, 65536), 1, 0, "grid size");
  const std::vector<std::pair<const char*, int>> devices = {{"80", 163}, {"86", 99},   {"89", 99},
                                                            {"90", 227}, {"100", 227}, {"120", 99}};
  for (const auto& [capability, kilobytes] : devices) {
    setenv("FASTCLIP_EMULATOR_CAPABILITY", capability, 1);
    const size_t most = size_t{1024} * kilobytes;
    expect(shared_limit() == most, "shared memory of a block");
    expect(error(1, 1000, most - 4000).empty(), "all shared memory that there is");
    refuses(1, 1000, most - 3984, "static variables take 4000 bytes");
    refuses(1, 1000, most + 16, "a block of this device has");
  }
  unsetenv("FASTCLIP_EMULATOR_CAPABILITY");
}

void test_ended_lanes() {
  unsigned votes[32];
  int shuffled[32], sum[32];
  launch(ended_lanes_kernel, 1, 32, 0, nullptr, votes, shuffled, sum);
  for (int lane = 0; lane < 32; lane += 2) {
    expect(votes[lane] == 0x55555555u, "lanes that have ended do not vote");
    expect(shuffled[lane] < 0, "a shuffle from one of them is garbage");
    expect(sum[lane] == 16, "nor do they count");
  }
}

template <class T>
void test_contraction(T digit) {
  // The square is -c + digit^2, of which the last part is rounded away.
  const T a = 1 + digit, c = -(1 + 2 * digit);
  T out[6], fused;
  launch(contraction_kernel<T>, 1, 1, 0, nullptr, a, c, out);
  launch(fused_kernel<T>, 1, 1, 0, nullptr, a, c, &fused);
  for (int i = 0; i < 5; ++i) expect(out[i] == 0, "a product that must be rounded");
  expect(out[5] == digit * digit, "fma");
  expect(fused == digit * digit, "other products are fused");
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
  test_registers();
  test_static_memory();
  test_blocks();
  test_sizes();
  test_ended_lanes();
  test_contraction(0x1p-12f);
  test_contraction(0x1p-27);

  unsigned votes[32];
  launch(votes_kernel, 1, 32, 0, nullptr, votes);
  expect(votes[16] == (0x49240000u ^ 17u), "votes of half a warp");
  std::puts("passed");
}
