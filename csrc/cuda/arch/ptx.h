// Instructions without a name in CUDA C++, each with a twin for the emulator.
#pragma once

#include "cuda/arch/device.h"

namespace fastclip::cuda {

#ifdef FASTCLIP_EMULATE

// d += a * b for a 16 x 32 and a 32 x 8 tile of int8. Lane l holds
//   a[i]: row l / 4 + 8 (i % 2), columns 4 (l % 4) + 16 (i / 2) and the three after it
//   b[i]: column l / 4, rows 4 (l % 4) + 16 i and the three after it
//   d[i]: row l / 4 + 8 (i / 2), column 2 (l % 4) + i % 2
inline void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::mma_s8(d, a, b);
}

// d += a * b for a 16 x 16 and a 16 x 8 tile of float16, summed in float32. Lane l holds
//   a[i]: row l / 4 + 8 (i % 2), columns 2 (l % 4) + 8 (i / 2) and the one after it
//   b[i]: column l / 4, rows 2 (l % 4) + 8 i and the one after it
// and d as above.
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::mma_f16(d, a, b);
}

// Four 8 x 8 tiles of 16-bit numbers: lane 8 i + r holds the address of row r of tile i, in shared
// memory and aligned to 16 bytes. Lane l receives numbers 2 (l % 4) and the one after it of row
// l / 4 of each tile.
inline void ldmatrix_x4(uint32_t (&out)[4], const void* row) { emulator::ldmatrix_x4(out, row); }

// Copies 16 aligned bytes from global to shared memory in the background. If not `valid`, nothing
// is read and zeros are written.
inline void cp_async_16(void* shared, const void* global, bool valid = true) {
  emulator::cp_async(shared, global, 16, valid);
}
// Groups the copies that this thread has started since the last call.
inline void cp_async_commit() { emulator::cp_async_commit(); }
// Waits until at most `pending` groups of this thread are pending. The copies of other threads are
// visible after a barrier that follows.
template <int pending>
void cp_async_wait() {
  emulator::cp_async_wait(pending);
}

// A barrier for `threads` threads in whole warps; `id` is 1 to 15.
inline void named_barrier(int id, int threads) { emulator::barrier(id, threads, 0); }

#else

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ inline void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ inline void cp_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}

__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int pending>
__device__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#endif

}  // namespace fastclip::cuda
