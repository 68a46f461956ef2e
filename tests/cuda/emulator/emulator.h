// Runs CUDA kernels on the CPU: what nvcc and the device know by themselves, for a C++ compiler.
//
// Blocks run one after the other, in random order; the threads of a block are fibers, each of which
// runs until it waits for others, picked at random: what a forgotten barrier breaks shows. Dynamic
// shared memory and the targets of background copies hold garbage until they are written. Threads
// that wait for each other for ever end the launch with an error. The seed is that of
// FASTCLIP_EMULATOR_SEED, the compute capability that of FASTCLIP_EMULATOR_CAPABILITY (default 80).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__  // also in the standard headers, inside __attribute__(())
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

using cudaStream_t = struct CUstream_st*;

#define FASTCLIP_EMULATE_VECTOR(type, name)                                            \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                             \
  struct alignas(std::min<size_t>(16, 4 * sizeof(type))) name##4 { type x, y, z, w; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                     \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
FASTCLIP_EMULATE_VECTOR(unsigned char, uchar)
FASTCLIP_EMULATE_VECTOR(signed char, char)
FASTCLIP_EMULATE_VECTOR(unsigned short, ushort)
FASTCLIP_EMULATE_VECTOR(int, int)
FASTCLIP_EMULATE_VECTOR(unsigned, uint)
FASTCLIP_EMULATE_VECTOR(float, float)
FASTCLIP_EMULATE_VECTOR(double, double)
FASTCLIP_EMULATE_VECTOR(long long, longlong)
#undef FASTCLIP_EMULATE_VECTOR

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace fastclip::cuda::emulator {

int capability();

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);
void* dynamic_shared_memory();

// Waits for `expected` threads, or for all of the block's that have not ended where that is 0, and
// returns for how many of them `predicate` was not 0.
int barrier(int id, int expected, int predicate);

// Lets other threads run: for loops that wait for memory to change.
void yield();

// What a lane brings to a meeting of the lanes in `mask`; the last to come calls `finish`, which
// finds null where a lane is not there.
using Finish = void (*)(const void* const (&in)[32], void* const (&out)[32]);
void meet(unsigned mask, const void* in, void* out, Finish finish);
int lane();

template <class T>
struct Shuffle {
  T value;
  int from;
};

template <class T>
T shuffle(unsigned mask, T value, int from) {
  static_assert(std::is_trivially_copyable_v<T>);
  const Shuffle<T> mine{value, from};
  T result = value;
  meet(mask, &mine, &result, [](const void* const(&in)[32], void* const(&out)[32]) {
    for (int l = 0; l < 32; ++l) {
      if (in[l] == nullptr) continue;
      const int source = static_cast<const Shuffle<T>*>(in[l])->from & 31;
      // From a lane that takes no part the value is undefined.
      if (in[source] != nullptr) {
        *static_cast<T*>(out[l]) = static_cast<const Shuffle<T>*>(in[source])->value;
      } else {
        std::memset(out[l], 0xcd, sizeof(T));
      }
    }
  });
  return result;
}

// Combines the values of all lanes of the mask; every lane gets the result.
template <class T, class Combine>
T reduce(unsigned mask, T value, Combine) {
  T result{};
  meet(mask, &value, &result, [](const void* const(&in)[32], void* const(&out)[32]) {
    bool first = true;
    T all{};
    for (const void* one : in) {
      if (one == nullptr) continue;
      const T x = *static_cast<const T*>(one);
      all = first ? x : Combine{}(all, x);
      first = false;
    }
    for (void* one : out) {
      if (one != nullptr) *static_cast<T*>(one) = all;
    }
  });
  return result;
}

void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void ldmatrix_x4(uint32_t (&out)[4], const void* row);
void cp_async(void* shared, const void* global, int bytes, bool valid);
void cp_async_commit();
void cp_async_wait(int pending);

// Of Hopper. `state` is what ptx_sm90.h calls a MemoryBarrier.
uint32_t shared_offset(const void* shared);
void barrier_init(uint64_t& state, int threads);
void barrier_arrive(uint64_t& state, int bytes);
void barrier_wait(uint64_t& state, int parity);
void bulk_copy(void* shared, const void* global, int bytes, uint64_t& state);
// `dots` are the columns / 2 accumulators of a lane: garbage from the first product on until none
// is under way.
void wgmma_s8(int* dots, int columns, uint64_t a, uint64_t b, bool add);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);

}  // namespace fastclip::cuda::emulator

// Barriers.
inline void __syncthreads() { fastclip::cuda::emulator::barrier(0, 0, 0); }
inline int __syncthreads_or(int p) { return fastclip::cuda::emulator::barrier(0, 0, p) > 0; }
inline int __syncthreads_and(int p) { return fastclip::cuda::emulator::barrier(0, 0, !p) == 0; }
inline int __syncthreads_count(int p) { return fastclip::cuda::emulator::barrier(0, 0, p); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  fastclip::cuda::emulator::reduce(mask, 0, std::plus<int>());
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// Shuffles, within groups of `width` lanes.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int lane = fastclip::cuda::emulator::lane();
  return fastclip::cuda::emulator::shuffle(mask, value, (lane & -width) | (from & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = fastclip::cuda::emulator::lane();
  const int from = lane ^ bits;
  const bool inside = from < (lane & -width) + width;
  return fastclip::cuda::emulator::shuffle(mask, value, inside ? from : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = fastclip::cuda::emulator::lane();
  const int from = lane - static_cast<int>(delta);
  return fastclip::cuda::emulator::shuffle(mask, value, from >= (lane & -width) ? from : lane);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = fastclip::cuda::emulator::lane();
  const int from = lane + static_cast<int>(delta);
  const bool inside = from < (lane & -width) + width;
  return fastclip::cuda::emulator::shuffle(mask, value, inside ? from : lane);
}

// Votes and reductions.
inline unsigned __ballot_sync(unsigned mask, int p) {
  const unsigned bit = p != 0 ? 1u << fastclip::cuda::emulator::lane() : 0u;
  return fastclip::cuda::emulator::reduce(mask, bit, std::bit_or<unsigned>());
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
template <class T>
T __reduce_add_sync(unsigned mask, T value) {
  return fastclip::cuda::emulator::reduce(mask, value, std::plus<T>());
}
template <class T>
T __reduce_or_sync(unsigned mask, T value) {
  return fastclip::cuda::emulator::reduce(mask, value, std::bit_or<T>());
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  constexpr auto larger = [](T a, T b) { return std::max(a, b); };
  return fastclip::cuda::emulator::reduce(mask, value, larger);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value) {
  constexpr auto smaller = [](T a, T b) { return std::min(a, b); };
  return fastclip::cuda::emulator::reduce(mask, value, smaller);
}

// Atomics: one thread runs at a time.
template <class T, class U>
T atomicAdd(T* at, U value) {
  const T old = *at;
  *at = static_cast<T>(old + static_cast<T>(value));
  return old;
}
template <class T, class U>
T atomicMax(T* at, U value) {
  const T old = *at;
  *at = std::max(old, static_cast<T>(value));
  return old;
}
template <class T, class U>
T atomicMin(T* at, U value) {
  const T old = *at;
  *at = std::min(old, static_cast<T>(value));
  return old;
}
template <class T, class U>
T atomicOr(T* at, U value) {
  const T old = *at;
  *at = old | static_cast<T>(value);
  return old;
}
template <class T, class U>
T atomicAnd(T* at, U value) {
  const T old = *at;
  *at = old & static_cast<T>(value);
  return old;
}
template <class T, class U>
T atomicExch(T* at, U value) {
  const T old = *at;
  *at = static_cast<T>(value);
  return old;
}
template <class T, class U, class W>
T atomicCAS(T* at, U expected, W value) {
  const T old = *at;
  if (old == static_cast<T>(expected)) *at = static_cast<T>(value);
  return old;
}

// Bits.
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(unsigned x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }
inline int __ffsll(unsigned long long x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const uint64_t both = uint64_t{high} << 32 | low;
  return static_cast<unsigned>(both << (shift & 31) >> 32);
}
inline int __clz(unsigned x) { return std::countl_zero(x); }
inline int __clzll(unsigned long long x) { return std::countl_zero(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

// Arithmetic that the compiler must not contract or reorder: the emulated build has
// -ffp-contract=off.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

template <class T>
T __ldg(const T* at) {
  return *at;
}

using std::max;
using std::min;
