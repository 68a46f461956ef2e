// Instructions of Hopper (sm_90a) without a name in CUDA C++, each with a twin for the emulator.
#pragma once

#include "cuda/arch/ptx.h"

namespace fastclip::cuda {

// A barrier in shared memory (mbarrier). Its phases are numbered from 0; a phase ends when as many
// threads have arrived as it was made for, with all the bytes that they expected.
struct alignas(8) MemoryBarrier {
  uint64_t state;
};

// An operand of wgmma in shared memory: core matrices of 8 rows by 16 bytes, each in one piece of
// 128 bytes. The next 16 bytes of the same rows are `next_columns` bytes away, the next 8 rows
// `next_rows`. `address` is that of shared memory.
FASTCLIP_HD constexpr uint64_t wgmma_operand(uint32_t address, uint32_t next_columns,
                                             uint32_t next_rows) {
  return (address & 0x3ffffu) >> 4 | uint64_t{next_columns >> 4} << 16 |
         uint64_t{next_rows >> 4} << 32;
}

#ifdef FASTCLIP_EMULATE

inline uint32_t shared_address(const void* shared) { return emulator::shared_offset(shared); }

inline void barrier_init(MemoryBarrier& barrier, int threads) {
  emulator::barrier_init(barrier.state, threads);
}
// Between barrier_init and __syncthreads: makes the barriers visible to copies in the background.
inline void barrier_init_fence() {}
inline void barrier_arrive(MemoryBarrier& barrier) { emulator::barrier_arrive(barrier.state, 0); }
// Arrives, and makes the phase wait for `bytes` bytes of bulk copies.
inline void barrier_arrive_expect(MemoryBarrier& barrier, int bytes) {
  emulator::barrier_arrive(barrier.state, bytes);
}
// Waits for the end of a phase whose number is odd (`parity` 1) or even (0): the current one or the
// one before it. The phase before the first counts as ended.
inline void barrier_wait(MemoryBarrier& barrier, int parity) {
  emulator::barrier_wait(barrier.state, parity);
}

// Copies bytes from global to shared memory in the background, addresses and count multiples of 16.
// `barrier` counts them.
inline void bulk_copy(void* shared, const void* global, int bytes, MemoryBarrier& barrier) {
  emulator::bulk_copy(shared, global, bytes, barrier.state);
}

// Products of a 64 x 32 tile of int8 and one of 64 `strips` rows (both with 32 adjacent codes of a
// row) in the background, by a warp-group: 4 warps from a multiple of 4 on. They replace `dots` or
// are added to it. Lane l of warp w holds
//   dots[t][n][i]: row 16 w + 8 (i / 2) + l / 4, column 64 t + 8 n + 2 (l % 4) + i % 2
// and must not touch `dots` before wgmma_finish.
template <int strips>
void wgmma_s8(int (&dots)[strips][8][4], uint64_t queries, uint64_t keys, bool add) {
  emulator::wgmma_s8(&dots[0][0][0], 64 * strips, queries, keys, add);
}
// Before the first wgmma after the accumulators were read or written.
inline void wgmma_fence() { emulator::wgmma_fence(); }
// Groups the products that were started since the last call.
inline void wgmma_commit() { emulator::wgmma_commit(); }
// Waits until at most `pending` groups are pending: what the others read may be overwritten.
template <int pending>
void wgmma_wait() {
  emulator::wgmma_wait(pending);
}
// Waits until none is pending.
template <int strips>
void wgmma_finish(int (&)[strips][8][4]) {
  emulator::wgmma_wait(0);
}

// Gives registers back or takes more, so that each thread of the warp-group has `count`.
template <int count>
void fewer_registers() {
  static_assert(count % 8 == 0 && count >= 24 && count <= 256);
}
template <int count>
void more_registers() {
  static_assert(count % 8 == 0 && count >= 24 && count <= 256);
}

#else

__device__ inline void barrier_init(MemoryBarrier& barrier, int threads) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(threads)
               : "memory");
}

__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_arrive(MemoryBarrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}

__device__ inline void barrier_arrive_expect(MemoryBarrier& barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
      "r"(bytes)
      : "memory");
}

__device__ inline void barrier_wait(MemoryBarrier& barrier, int parity) {
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  }
}

__device__ inline void bulk_copy(void* shared, const void* global, int bytes,
                                 MemoryBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(&barrier))
      : "memory");
}

#define FASTCLIP_4(d) "+r"((d)[0]), "+r"((d)[1]), "+r"((d)[2]), "+r"((d)[3])
#define FASTCLIP_32(d)                                                            \
  FASTCLIP_4((d)[0]), FASTCLIP_4((d)[1]), FASTCLIP_4((d)[2]), FASTCLIP_4((d)[3]), \
      FASTCLIP_4((d)[4]), FASTCLIP_4((d)[5]), FASTCLIP_4((d)[6]), FASTCLIP_4((d)[7])
#define FASTCLIP_64(d) FASTCLIP_32((d)[0]), FASTCLIP_32((d)[1])
#define FASTCLIP_96(d) FASTCLIP_64(d), FASTCLIP_32((d)[2])
#define FASTCLIP_128(d) FASTCLIP_96(d), FASTCLIP_32((d)[3])

// `numbers` are those of the accumulators, `a`, `b` and `p` those of the operands after them.
#define FASTCLIP_WGMMA(strips, columns, numbers, a, b, p, accumulators)                         \
  __device__ inline void wgmma_s8(int(&dots)[strips][8][4], uint64_t queries, uint64_t keys,    \
                                  bool add) {                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" p                                         \
                 ", 0;\n"                                                                       \
                 "wgmma.mma_async.sync.aligned.m64n" columns "k32.s32.s8.s8 {" numbers "}, %" a \
                 ", %" b ", p;\n}"                                                              \
                 : accumulators(dots)                                                           \
                 : "l"(queries), "l"(keys), "r"(static_cast<int>(add)));                        \
  }                                                                                             \
  /* `dots` is an operand so that the compiler does not use it before. */                       \
  __device__ inline void wgmma_finish(int(&dots)[strips][8][4]) {                               \
    asm volatile("wgmma.wait_group.sync.aligned 0;" : accumulators(dots)::"memory");            \
  }
#define FASTCLIP_0_63                                                                \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"             \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FASTCLIP_0_95                                                                \
  FASTCLIP_0_63                                                                      \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define FASTCLIP_0_127                                                                           \
  FASTCLIP_0_95                                                                                  \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
FASTCLIP_WGMMA(2, "128", FASTCLIP_0_63, "64", "65", "66", FASTCLIP_64)
FASTCLIP_WGMMA(3, "192", FASTCLIP_0_95, "96", "97", "98", FASTCLIP_96)
FASTCLIP_WGMMA(4, "256", FASTCLIP_0_127, "128", "129", "130", FASTCLIP_128)
#undef FASTCLIP_0_127
#undef FASTCLIP_0_95
#undef FASTCLIP_0_63
#undef FASTCLIP_WGMMA
#undef FASTCLIP_128
#undef FASTCLIP_96
#undef FASTCLIP_64
#undef FASTCLIP_32
#undef FASTCLIP_4

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

template <int count>
__device__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count>
__device__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

#endif

}  // namespace fastclip::cuda
