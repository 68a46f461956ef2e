// The screen (fastclip/screen.h) on the device: what mainloops and sinks agree on.
//
// A mainloop multiplies the codes of a block of queries by those of a range of keys on tensor
// cores and hands the products to a sink while they are in registers; no matrix of scores is ever
// in memory. One mainloop per architecture family (screen_sm80.cuh, ...), one sink per question.
//
// A sink takes strips of 16 queries by 64 keys, each from one warp:
//
//   __device__ void operator()(const int (&dots)[8][4], const Strip& strip) const;
//
// All 32 lanes call it together. Lane l brings q8 . (k8 + 128) of
//   dots[n][2 h + c]: row 8 h + l / 4, column 8 n + 2 (l % 4) + c        (h, c < 2; n < 8)
// of the strip, which is how mma.m16n8k32 and wgmma leave their results. Rows and columns of strips
// are multiples of 16 and 64. Sinks are copied to the device as arguments of the kernel.
//
// Arrays that belong to queries are padded to whole tiles of kQueryTile; padding and queries that
// are not screened have NaN as thresholds. Columns without a key have NaN as scale. So a comparison
// that a pair must pass is false for what is not there, and no sink asks about borders.
#pragma once

#include <cfloat>

#include "cuda/arch/device.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

inline constexpr int kQueryTile = 128;
inline constexpr int kKeyStep = 256;  // ranges of keys begin at multiples of this
inline constexpr int kStripQueries = 16;
inline constexpr int kStripKeys = 64;

// Codes lie as tensor cores and bulk copies take them: in blocks of kPanel rows by kStep codes, the
// blocks of the same rows one after the other. A block is 4 x 4 core matrices of 8 rows by 16
// codes, each in one piece, those of the same rows one after the other.
inline constexpr int kStep = 64;  // codes of a row at a time
inline constexpr int kBlockBytes = 32 * kStep;
inline constexpr int kNextColumns = 128;              // bytes to the core matrix of the next codes
inline constexpr int kNextRows = 128 * (kStep / 16);  // bytes to that of the next rows
static_assert(kPanel == 32 && kWidth % kStep == 0);

// Where a block begins; `row` is a multiple of kPanel.
FASTCLIP_HD inline int64_t block_offset(int64_t row, int64_t step, int64_t width) {
  return row * width + step * kBlockBytes;
}

// Where codes of kStep columns lie in a block, or in several ones below each other without gaps.
FASTCLIP_HD inline int offset_in_block(int row, int column) {
  return row / 8 * kNextRows + column / 16 * kNextColumns + row % 8 * 16 + column % 16;
}

FASTCLIP_HD inline int64_t code_offset(int64_t row, int64_t column, int64_t width) {
  return block_offset(row / kPanel * kPanel, column / kStep, width) +
         offset_in_block(static_cast<int>(row % kPanel), static_cast<int>(column % kStep));
}

// A block of queries as the screen sees it.
struct CodedQueries {
  const int8_t* codes;              // [padded, width], at code_offset
  const ScreenQuery* coefficients;  // [padded]
  const float* gamma;               // [padded], of screen.h
  const double* scale;              // [padded], s_q
  const double* offset;             // [padded], q.c
  int64_t count;

  FASTCLIP_HD int64_t tiles() const { return ceil_div<int64_t>(count, kQueryTile); }
};

// What a mainloop does: all strips of some tiles of queries and the keys [first_key, last_key).
struct ScreenCall {
  const int8_t* queries;  // codes [query_tiles * kQueryTile, width], at code_offset
  int64_t query_tiles;
  ScreenKeys keys;  // codes [padded keys, width], at code_offset
  int64_t first_key, last_key;
  // Where not null: the only tiles of queries to be done, and how many they are.
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
  __device__ void load(const ScreenCall& call, int64_t first_key, int thread, int threads) {
    for (int j = thread; j < keys; j += threads) {
      const int64_t key = first_key + j;
      const bool valid = key < call.last_key;
      scale[j] = valid ? call.keys.scale[key] : NAN;
      error[j] = valid ? fminf(call.keys.error[key], FLT_MAX) : 0;
      norm[j] = valid ? fminf(call.keys.norm[key], FLT_MAX) : 0;
    }
  }
};

// Where 16 x 64 products belong.
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

// alpha E + beta N of screen.h, (2).
__device__ inline float screen_margin(const ScreenQuery& query, float error, float norm) {
  return fmaf(query.alpha, error, query.beta * norm);
}

// What the screen knows of one score, in units of s_q from q.c and but for gamma.
struct ScreenedScore {
  float dot, scale, margin;

  __device__ float x() const { return dot * scale; }
  __device__ float upper() const { return fmaf(dot, scale, margin); }
  __device__ float lower() const { return fmaf(dot, scale, -margin); }
};

// Calls visit(h, bit, score) for the 32 scores that this lane holds of a strip: h tells the query,
// bits 4 n + 2 h + c number the scores. Both scores of a key come one after the other, keys rise.
template <class Visit>
__device__ __forceinline__ void visit_strip(const int (&dots)[8][4], const Strip& strip,
                                            const ScreenQuery (&queries)[2], Visit visit) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = Strip::column(n, c);
      const float scale = strip.scale[column];
      const float error = strip.error[column];
      const float norm = strip.norm[column];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int dot = dots[n][2 * h + c] + queries[h].correction;
        const float margin = screen_margin(queries[h], error, norm);
        visit(h, 4 * n + 2 * h + c, ScreenedScore{static_cast<float>(dot), scale, margin});
      }
    }
  }
}

// The key of a bit that visit_strip gave.
__device__ inline int64_t key_of_bit(const Strip& strip, int bit) {
  return strip.first_key + Strip::column(bit / 4, bit % 2);
}

}  // namespace fastclip::cuda
