// The screen (fastclip/screen.h) on the device: what mainloops and epilogues agree on.
//
// A mainloop multiplies the codes of a block of queries by those of a range of keys on tensor
// cores and hands the products to an epilogue while they are in registers; no matrix of scores is
// ever in memory. One mainloop per architecture family (mainloop_sm80.cuh, ...), one epilogue per
// question.
//
// An epilogue takes strips of 16 queries by 64 keys, each from one warp:
//
//   __device__ void operator()(const int (&dots)[8][4], const Strip& strip) const;
//
// All 32 lanes call it together. Lane l holds q8 . (k8 + 128) in
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
#include "cuda/arch/device.h"
#include "cuda/tuning.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

inline constexpr int kStripQueries = 16;
inline constexpr int kStripKeys = 64;

// What a mainloop does: all strips of some tiles of queries and the keys [first_key, last_key).
struct MainloopParams {
  const int8_t* queries;  // codes [query_tiles * kQueryTile, width], at code_offset
  int64_t query_tiles;
  ScreenKeys keys;  // codes [padded keys, width], at code_offset
  int64_t first_key, last_key;
  // If not null: the only tiles of queries to process, and their number.
  const int* tile_list = nullptr;
  const int* tile_count = nullptr;

  FASTCLIP_HD int64_t num_keys() const { return last_key - first_key; }
};

// Bounds of the keys of a tile, in shared memory.
template <int keys>
struct TileBounds {
  float scale[keys];
  float error[keys];
  float norm[keys];

  // All `threads` threads of a group call this; a barrier must follow. Keys that overflowed have
  // infinite bounds: no query is screened then, but 0 times infinity would be NaN.
  __device__ void load(const MainloopParams& params, int64_t first_key, int thread, int threads) {
    for (int j = thread; j < keys; j += threads) {
      const int64_t key = first_key + j;
      const bool valid = key < params.last_key;
      scale[j] = valid ? params.keys.scale[key] : NAN;
      error[j] = valid ? fminf(params.keys.error[key], FLT_MAX) : 0;
      norm[j] = valid ? fminf(params.keys.norm[key], FLT_MAX) : 0;
    }
  }
};

// The position of 16 x 64 products, and the bounds of their keys.
struct Strip {
  int64_t first_query;  // of the block
  int64_t first_key;
  const float* scale;  // of the 64 keys, as are the next two
  const float* error;
  const float* norm;

  // The row of dots[n][2 h + c] on this lane.
  __device__ int64_t query(int h) const { return first_query + 8 * h + threadIdx.x % kWarp / 4; }
  __device__ static int column(int n, int c) { return 8 * n + 2 * (threadIdx.x % 4) + c; }
};

}  // namespace fastclip::cuda
