// The screen (fastclip/screen.h) on the device: what mainloops and epilogues agree on.
//
// A mainloop multiplies the codes of a block of queries by those of a range of keys on tensor
// cores and hands the products to an epilogue while they are in registers; no matrix of scores is
// ever in memory. One mainloop per architecture family (mainloop_sm80.cuh, ...), one epilogue per
// question.
//
// An epilogue takes strips of 16 queries by 64 keys, each from one warp, whose lanes call together.
// Lane l holds q8 . k8 in
//   dots[n][2 h + c]: row 8 h + l / 4, column 8 n + 2 (l % 4) + c        (h, c < 2; n < 8)
// of the strip, which is how mma.m16n8k32 and wgmma leave their results. Rows and columns of strips
// are multiples of 16 and 64. Epilogues are arguments of the kernel, passed by value.
//
// Arrays that belong to queries are padded to whole tiles of kQueryTile; padding and queries that
// are not screened have NaN as thresholds. Columns without a key have NaN as scale. A comparison
// that a pair must pass is therefore false in the padding, and epilogues need no bounds checks.
#pragma once

#include <cfloat>

#include "cuda/arch/code_layout.h"
#include "cuda/arch/threads.cuh"
#include "cuda/tuning.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

inline constexpr int kStripQueries = 16;
inline constexpr int kStripKeys = 64;

// What a mainloop does: all strips of some tiles of queries and the keys [first_key, last_key).
struct MainloopParams {
  const int8_t* queries;  // codes [query_tiles * kQueryTile, width], at code_offset
  int64_t query_tiles;
  ScreenKeys keys;  // codes [padded keys, width], at code_offset, int8
  int64_t first_key, last_key;
  // If not null: the only tiles of queries to process, and their number.
  const int* tile_list = nullptr;
  const int* tile_count = nullptr;
  const int64_t* labels = nullptr;  // of the keys, below 2^31, for epilogues that ask for them

  FASTCLIP_HD int64_t num_keys() const { return last_key - first_key; }
};

// Bounds of the keys of a tile, in shared memory, and their labels.
template <int keys, bool labels>
struct alignas(16) TileBounds {
  static constexpr int kStrips = keys / kStripKeys;
  float scale[keys];
  float error[keys];
  int32_t label[labels ? keys : 4];
  float norm[kStrips];  // the largest of a strip: of rows of about the same length hardly looser

  // All lanes of the warps from 0 to `warps` - 1 call this; a barrier must follow. Keys that
  // overflowed have infinite bounds: no query is screened then, but 0 times infinity would be NaN.
  __device__ void load(const MainloopParams& params, int64_t first_key, int warp, int warps) {
    for (int strip = warp; strip < kStrips; strip += warps) {
      float longest = 0;
#pragma unroll
      for (int half = 0; half < kStripKeys; half += kWarp) {
        const int j = strip * kStripKeys + half + static_cast<int>(threadIdx.x) % kWarp;
        const int64_t key = first_key + j;
        const bool valid = key < params.last_key;
        scale[j] = valid ? params.keys.scale[key] : NAN;
        error[j] = valid ? fminf(params.keys.error[key], FLT_MAX) : 0;
        if (valid) longest = fmaxf(longest, params.keys.norm[key]);
        // Where there is no key, that of the last one: its NaN changes nothing.
        if constexpr (labels) {
          label[j] = static_cast<int32_t>(params.labels[valid ? key : params.last_key - 1]);
        }
      }
      longest = warp_largest(longest);
      if (threadIdx.x % kWarp == 0) norm[strip] = fminf(longest, FLT_MAX);
    }
  }
};

// The position of 16 x 64 products, and the bounds of their keys.
struct Strip {
  int64_t first_query;  // of the block
  int64_t first_key;
  int keys = kStripKeys;         // that there are: 64 or more, or fewer
  float norm = 0;                // the largest of its keys
  const float* scale = nullptr;  // of the 64 keys, as are the next two
  const float* error = nullptr;
  const int32_t* label = nullptr;

  // The row of dots[n][2 h + c] on this lane.
  __device__ static int64_t query_of(int64_t first_query, int h) {
    return first_query + 8 * h + threadIdx.x % kWarp / 4;
  }
  __device__ int64_t query(int h) const { return query_of(first_query, h); }
  __device__ static int column(int n, int c) { return 8 * n + 2 * (threadIdx.x % 4) + c; }
  // Of columns 8 n + 2 (l % 4) and the one after it.
  __device__ int2 labels(int n) const {
    return *reinterpret_cast<const int2*>(label + column(n, 0));
  }
  // Bits 4 n + 2 h + c of the products of this lane that have a key.
  __device__ uint32_t bits() const {
    if (keys >= kStripKeys) return 0xffffffffu;
    uint32_t bits = 0;
#pragma unroll 1
    for (int n = 0; n < 8; ++n) {
      for (int c = 0; c < 2; ++c) bits |= column(n, c) < keys ? 5u << (4 * n + c) : 0;
    }
    return bits;
  }
};

// The `nth` strip of a tile of `keys` keys from `first_key` on, in shared memory.
template <class Bounds>
__device__ Strip strip_of(const Bounds& bounds, int nth, int64_t first_query, int64_t first_key,
                          int keys) {
  const int column = nth * kStripKeys;
  return {first_query,           first_key + column,    keys - column,        bounds.norm[nth],
          bounds.scale + column, bounds.error + column, bounds.label + column};
}

// What an epilogue has beside
//
//   struct Rows;  what it knows of the queries of a strip
//   __device__ Rows rows(int64_t first_query) const;
//   __device__ void operator()(const int (&dots)[8][4], const Strip&, const Rows&, State&) const;
//
// A mainloop calls rows() as early as it can, so that what it loads is there when the products are.
struct Epilogue {
  static constexpr bool kLabels = false;  // whether it asks for labels of the keys
  struct Memory {};                       // of each warp, shared
  struct State {                          // of each warp, in the registers of all lanes
    __device__ explicit State(Memory&) {}
  };
  __device__ void finish(State&) const {}  // after the last strip of a warp
};

}  // namespace fastclip::cuda
