// The mainloop for devices from compute capability 8.0 on: mma.sync, fed by a pipeline of k-tiles
// that are copied to shared memory (cp.async). Where two blocks fit on a multiprocessor, one's
// epilogue runs beside the other's products.
#pragma once

#include <algorithm>

#include "cuda/arch/mainloop_params.cuh"
#include "cuda/arch/ptx.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace sm80 {

using Tuned = tuned::MainloopSm80;
inline constexpr int kKeyTile = Tuned::kKeyTile;
inline constexpr int kThreads = Tuned::kThreads;
static_assert(kQueryTile == 128 && kKeyTile == 128 && kThreads == 128, "2 x 2 warps of 64 x 64");

// A k-tile of both operands.
struct Stage {
  uint8_t queries[kQueryTile * kTileK];
  uint8_t keys[kKeyTile * kTileK];
};

template <class Epilogue, int kStages>
struct Shared {
  Stage stages[kStages];
  TileBounds<kKeyTile, Epilogue::kLabels> bounds;
  typename Epilogue::Memory memory[kThreads / kWarp];
};

// Starts to copy one k-tile of `rows` rows from `first` on, with zeros in place of those from
// `last` on.
template <int rows>
__device__ inline void load_blocks(uint8_t* to, const void* codes, int64_t first, int64_t last,
                                   int64_t k_tile, int64_t width) {
  constexpr int kPieces = kBlockBytes / 16;
#pragma unroll
  for (int i = 0; i < rows * kTileK / 16 / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int64_t row = first + at / kPieces * kPanel;
    const bool valid = row < last;
    const int64_t from = block_offset(valid ? row : first, k_tile, width) + at % kPieces * 16;
    cp_async_16(to + 16 * at, static_cast<const uint8_t*>(codes) + from, valid);
  }
}

// Fills a stage with a k-tile of both operands.
__device__ inline void load_k_tile(Stage& stage, const MainloopParams& params, int64_t query_tile,
                                   int64_t first_key, int64_t k_tile) {
  const int64_t width = params.keys.width;
  const int64_t first_query = query_tile * kQueryTile;
  load_blocks<kQueryTile>(stage.queries, params.queries, first_query, first_query + kQueryTile,
                          k_tile, width);
  load_blocks<kKeyTile>(stage.keys, params.keys.codes, first_key, params.last_key, k_tile, width);
}

// dots[m][n] += the products of this warp's 64 queries and 64 keys over one k-tile.
__device__ inline void multiply_k_tile(const Stage& stage, int (&dots)[4][8][4]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int tile = lane / 8, row = lane % 8;  // of the four that ldmatrix loads
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t queries[4][4];
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const int at = warp / 2 * 64 + 16 * m + tile % 2 * 8 + row;
      ldmatrix_x4(queries[m], stage.queries + offset_in_block(at, 32 * half + tile / 2 * 16));
    }
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t both[4];
      const int at = warp % 2 * 64 + 16 * pair + tile / 2 * 8 + row;
      ldmatrix_x4(both, stage.keys + offset_in_block(at, 32 * half + tile % 2 * 16));
      const uint32_t keys[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        mma_s8(dots[m][2 * pair], queries[m], keys[0]);
        mma_s8(dots[m][2 * pair + 1], queries[m], keys[1]);
      }
    }
  }
}

template <class Epilogue, int kStages>
__global__ void __launch_bounds__(kThreads, Tuned::kBlocks)
    screen_kernel(MainloopParams params, Epilogue epilogue) {
  auto& shared = *dynamic_shared<Shared<Epilogue, kStages>>();
  const int warp = threadIdx.x / kWarp;
  typename Epilogue::State state(shared.memory[warp]);
  const int64_t query_tiles = params.tile_list == nullptr ? params.query_tiles : *params.tile_count;
  const int64_t tiles = query_tiles * ceil_div<int64_t>(params.num_keys(), kKeyTile);
  const int k_tiles = static_cast<int>(params.keys.width / kTileK);
  // Neighbouring blocks work on the same keys, which then come from memory once.
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t nth = t % query_tiles;
    const int64_t query_tile = params.tile_list == nullptr ? nth : params.tile_list[nth];
    const int64_t first_key = params.first_key + t / query_tiles * kKeyTile;

#pragma unroll
    for (int k = 0; k < kStages - 1; ++k) {
      if (k < k_tiles) load_k_tile(shared.stages[k], params, query_tile, first_key, k);
      cp_async_commit();
    }
    shared.bounds.load(params, first_key, warp, kThreads / kWarp);
    int dots[4][8][4] = {};
    for (int k = 0; k < k_tiles; ++k) {
      cp_async_wait<kStages - 2>();
      __syncthreads();  // k-tile k is there, and nobody reads the stage that is filled next
      const int next = k + kStages - 1;
      if (next < k_tiles)
        load_k_tile(shared.stages[next % kStages], params, query_tile, first_key, next);
      cp_async_commit();
      multiply_k_tile(shared.stages[k % kStages], dots);
    }

    const auto keys = static_cast<int>(min(int64_t{kKeyTile}, params.last_key - first_key));
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const int64_t first_query = query_tile * kQueryTile + warp / 2 * 64 + m * kStripQueries;
      epilogue(dots[m], strip_of(shared.bounds, warp % 2, first_query, first_key, keys),
               epilogue.rows(first_query), state);
    }
    __syncthreads();  // before the next tile is loaded
  }
  epilogue.finish(state);
}

template <int stages, class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
  const int64_t tiles = params.query_tiles * ceil_div<int64_t>(params.num_keys(), kKeyTile);
  // How much there is of a list only the device knows: a few blocks share it.
  const int64_t most =
      params.tile_list != nullptr ? int64_t{Tuned::kBlocks} * multiprocessors() : 0x7fffffff;
  launch(screen_kernel<Epilogue, stages>, static_cast<unsigned>(std::min(tiles, most)), kThreads,
         sizeof(Shared<Epilogue, stages>), stream, params, epilogue);
}

// With so many stages that the blocks of a multiprocessor fit: it has 1 KB more than one block may
// take, and keeps 1 KB of each block.
template <class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
  constexpr size_t kKept = 1024;
  constexpr int kMost = Tuned::kStages, kFewer = Tuned::kStagesOfSmall;
  constexpr auto room = [](size_t block) { return Tuned::kBlocks * (block + kKept) - kKept; };
  static_assert(room(sizeof(Shared<Epilogue, kMost>)) <= 163 * 1024, "8.0, 8.7");
  static_assert(room(sizeof(Shared<Epilogue, kFewer>)) <= 99 * 1024, "8.6, 8.9, 12.0");
  if (room(sizeof(Shared<Epilogue, kMost>)) <= shared_limit()) {
    screen<kMost>(params, epilogue, stream);
  } else {
    screen<kFewer>(params, epilogue, stream);
  }
}

}  // namespace sm80
}  // namespace fastclip::cuda
