// What the mainloop for Hopper is made of, alone: bulk copies, mbarriers, wgmma and its operands.
//
// 1. Products of 64 rows of 512 codes with 256, 192 and 128 keys, against the CPU's.
// 2. On a device, the rate of the same products on random codes, with nothing copied or used
//    meanwhile: what a screen on this card cannot exceed.
//
// No emulator can prove descriptors and fragments right: if this fails on a device, mend it before
// anything else. benches/gpu.py builds and runs it there.
#include <cstdio>
#include <random>
#include <vector>

#include "cuda/arch/mainloop_sm90.cuh"
#include "expect.h"

using namespace fastclip;
using namespace fastclip::cuda;

namespace {

constexpr int kKTiles = 8, kCodes = kKTiles * kTileK, kRows = 64, kGroup = 128;

template <int strips>
constexpr int kKeys = strips * kStripKeys;

template <int strips>
struct Tile {
  int8_t queries[kKTiles][kRows * kTileK];
  uint8_t keys[kKTiles][kKeys<strips> * kTileK];
  MemoryBarrier full;
};

// `rounds` products of two warp-groups; block 0 stores those of the first, added up.
template <int strips>
__global__ void __launch_bounds__(2 * kGroup, 1)
    probe_kernel([[maybe_unused]] const int8_t* queries, [[maybe_unused]] const uint8_t* keys,
                 [[maybe_unused]] int* out, [[maybe_unused]] int rounds) {
#if defined(FASTCLIP_EMULATE) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  auto& tile = *dynamic_shared<Tile<strips>>();
  if (threadIdx.x == 0) {
    barrier_init(tile.full, 1);
    barrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    barrier_arrive_expect(tile.full, kKTiles * (kRows + kKeys<strips>)*kTileK);
    for (int k = 0; k < kKTiles; ++k) {
      for (int row = 0; row < kRows; row += kPanel) {
        bulk_copy(tile.queries[k] + row * kTileK, queries + block_offset(row, k, kCodes),
                  kBlockBytes, tile.full);
      }
      for (int row = 0; row < kKeys<strips>; row += kPanel) {
        bulk_copy(tile.keys[k] + row * kTileK, keys + block_offset(row, k, kCodes), kBlockBytes,
                  tile.full);
      }
    }
  }
  barrier_wait(tile.full, 0);
  int dots[strips][8][4] = {};
  for (int n = 0; n < rounds; ++n) {
    for (int k = 0; k < kKTiles; ++k) {
      wgmma_fence();
      sm90::multiply_k_tile(tile.queries[k], tile.keys[k], dots, n + k > 0);
      wgmma_commit();
      wgmma_wait<1>();
    }
  }
  wgmma_finish(dots);
  if (blockIdx.x > 0 || threadIdx.x >= kGroup) {
    if (dots[0][0][0] == INT32_MIN) out[0] = 1;  // never: so that the products are made
    return;
  }
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int t = 0; t < strips; ++t) {
    for (int n = 0; n < 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int row = 16 * warp + 8 * (i / 2) + lane / 4;
        out[row * kKeys<strips> + 64 * t + 8 * n + 2 * (lane % 4) + i % 2] = dots[t][n][i];
      }
    }
  }
#endif
}

template <int strips>
void probe(unsigned blocks, const int8_t* queries, const uint8_t* keys, int* out, int rounds) {
  launch(probe_kernel<strips>, blocks, 2 * kGroup, sizeof(Tile<strips>), nullptr, queries, keys,
         out, rounds);
}

template <int strips>
void check_product(const std::vector<int8_t>& queries, const std::vector<uint8_t>& keys,
                   const std::vector<int>& out) {
  int wrong = 0;
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kKeys<strips>; ++j) {
      int dot = 0;
      for (int c = 0; c < kCodes; ++c) {
        dot += queries[code_offset(i, c, kCodes)] *
               static_cast<int8_t>(keys[code_offset(j, c, kCodes)]);
      }
      const int found = out[i * kKeys<strips> + j];
      if (found != dot && wrong++ < 5) std::printf("[%d, %d]: %d, not %d\n", i, j, found, dot);
    }
  }
  if (wrong > 0) std::printf("%d of %d are wrong\n", wrong, kRows * kKeys<strips>);
  expect(wrong == 0, "a product of bulk copies, mbarriers and wgmma");
}

#ifdef FASTCLIP_EMULATE

template <class T>
const T* on_device(const std::vector<T>& numbers) {
  return numbers.data();
}

template <int strips>
void run(const int8_t* queries, const uint8_t* keys, std::vector<int>& out) {
  probe<strips>(1, queries, keys, out.data(), 1);
}

#else

template <class T>
const T* on_device(const std::vector<T>& numbers) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, numbers.size() * sizeof(T)), "memory");
  check(cudaMemcpy(memory, numbers.data(), numbers.size() * sizeof(T), cudaMemcpyHostToDevice),
        "copy to the device");
  return static_cast<const T*>(memory);
}

template <int strips>
void run(const int8_t* queries, const uint8_t* keys, std::vector<int>& out) {
  int* memory = const_cast<int*>(on_device(out));
  probe<strips>(1, queries, keys, memory, 1);
  check(cudaMemcpy(out.data(), memory, out.size() * sizeof(int), cudaMemcpyDeviceToHost),
        "copy from the device");

  const int rounds = 20000;
  const auto blocks = static_cast<unsigned>(multiprocessors());
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  for (int i = 0; i < 3; ++i) {
    check(cudaEventRecord(begin), "event");
    probe<strips>(blocks, queries, keys, memory, rounds);
    check(cudaEventRecord(end), "event");
    check(cudaEventSynchronize(end), "products");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "time");
    const double operations = 2.0 * blocks * 2 * rounds * kRows * kKeys<strips> * kCodes;
    std::printf("wgmma of %d keys alone: %.0f TOP/s, %.1f ms\n", kKeys<strips>,
                operations / ms / 1e9, ms);
  }
}

#endif

template <int strips>
void check_strips() {
  std::mt19937 random(strips);
  std::vector<int8_t> queries(kRows * kCodes);
  std::vector<uint8_t> keys(kKeys<strips> * kCodes);
  for (int8_t& x : queries) x = static_cast<int8_t>(random() % 255 - 127);
  for (uint8_t& x : keys) x = static_cast<uint8_t>(random() % 256);
  std::vector<int> out(kRows * kKeys<strips>, -1);
  run<strips>(on_device(queries), on_device(keys), out);
  check_product<strips>(queries, keys, out);
}

}  // namespace

int main() {
  check_strips<4>();
  check_strips<3>();
  check_strips<2>();
  std::printf("passed\n");
}
