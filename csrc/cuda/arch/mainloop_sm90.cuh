// The mainloop for Hopper (compute capability 9.0): wgmma, fed by bulk copies that warps of their
// own start.
//
// A block goes through the tiles of queries with one tile of keys resident in shared memory, so
// that keys come from memory once and each byte of a query serves 256 keys. Codes lie in memory as
// wgmma takes them (code_layout.h): a copy of a block of codes is one instruction without a tensor
// map.
//
// The first warp-group is the producers: one warp copies keys, one queries, one the keys' bounds.
// The two others, the consumers, each multiply 64 queries by the 256 keys, by turns (ping-pong):
// one has the tensor cores while the other is in its epilogue. All stages of the query pipeline
// serve the one whose turn it is.
//
// Rows of more than kKeyStages k-tiles (768 codes) are not resident: keys are then copied again for
// each tile of queries, and both consumers take the same k-tile at a time.
//
// The floors, for a multiprocessor, rows of 512 codes and 64 queries of a consumer by 256 keys:
//   products           2,048 cycles of the tensor cores
//   epilogue           1,150 instructions of each of 4 warps, of topk: 9 lane operations a score
//   shared memory      1,280 cycles for wgmma, 256 for copies, 384 or more for the bounds of keys
//   second-level cache 32 KB, 16 bytes a cycle; on all 132 of an H100 3.9 TB/s
// The epilogue must take no longer than the products of the other consumer, or it is what counts.
//
// An H100 (1,979 TOP/s of int8, 3.35 TB/s) needs at least 25.9 ms for the products of 50,000 x
// 1,000,000 rows of 512 codes and 0.6 ms for the bytes of the keys, which come from memory once for
// each 16,384 queries. Prediction: 30 to 40 ms, by the clock that its power leaves.
#pragma once

#include <algorithm>

#include "cuda/arch/mainloop_params.cuh"
#include "cuda/arch/ptx_sm90.h"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace sm90 {

using Tuned = tuned::MainloopSm90;
inline constexpr int kKeyTile = Tuned::kKeyTile;
inline constexpr int kConsumers = Tuned::kConsumers;
inline constexpr int kQueries = kQueryTile / kConsumers;
inline constexpr int kKeyStages = Tuned::kKeyStages;      // k-tiles of keys
inline constexpr int kQueryStages = Tuned::kQueryStages;  // k-tiles of the queries of a consumer
inline constexpr int kBoundsStages = Tuned::kBoundsStages;
inline constexpr int kWarpGroup = 128;
inline constexpr int kWarps = kWarpGroup / kWarp;  // of a warp-group
inline constexpr int kThreads = (1 + kConsumers) * kWarpGroup;
static_assert(kQueries == 64 && kKeyTile == 256, "as wgmma has it");
static_assert(kQueryStages % kConsumers == 0,
              "k-tile by k-tile, each consumer has stages of its own");

// Stages that a producer warp fills in turn and consumers give back.
template <int stages>
struct Pipeline {
  MemoryBarrier full[stages];
  MemoryBarrier empty[stages];

  // Thread 0 calls this; so many threads say that a stage is full, and so many that it is empty.
  __device__ void init(int producers, int consumers) {
    for (int i = 0; i < stages; ++i) {
      barrier_init(full[i], producers);
      barrier_init(empty[i], consumers);
    }
  }
};

// Where a producer or a consumer is in a pipeline. Who waits for a stage to be full has to know
// that it was full the round before: a barrier tells only odd rounds from even ones.
template <int stages>
struct PipelineState {
  int stage = 0;
  int phase = 0;  // of the round, 0 or 1

  __device__ void advance(int count) {
    stage += count;
    phase = (phase + stage / stages) % 2;
    stage %= stages;
  }
  __device__ void wait_full(Pipeline<stages>& p) const { barrier_wait(p.full[stage], phase); }
  __device__ void wait_empty(Pipeline<stages>& p) const { barrier_wait(p.empty[stage], 1 - phase); }
};

struct Shared {
  uint8_t keys[kKeyStages][kKeyTile * kTileK];
  int8_t queries[kQueryStages][kQueries * kTileK];
  TileBounds<kKeyTile> bounds[kBoundsStages];
  Pipeline<kKeyStages> key_pipeline;
  Pipeline<kQueryStages> query_pipeline;
  Pipeline<kBoundsStages> bounds_pipeline;
  MemoryBarrier turns[kConsumers];
};
static_assert(sizeof(Shared) <= 227 * 1024);

using KeyState = PipelineState<kKeyStages>;
using QueryState = PipelineState<kQueryStages>;
using BoundsState = PipelineState<kBoundsStages>;

struct Tile {
  int64_t query_tile;
  int64_t first_key;
  bool first, last;  // of the block's tiles with these keys
};

// The tiles of a block: neighbours, of which those with the same keys come one after the other.
class Tiles {
 public:
  __device__ explicit Tiles(const MainloopParams& params)
      : k_tiles(static_cast<int>(params.keys.width / kTileK)),
        keys_resident(k_tiles <= kKeyStages),
        list_(params.tile_list),
        first_key_(params.first_key),
        queries_(params.tile_list == nullptr ? params.query_tiles : *params.tile_count) {
    const int64_t tiles = queries_ * ceil_div<int64_t>(params.num_keys(), kKeyTile);
    begin_ = tiles * blockIdx.x / gridDim.x;
    end_ = tiles * (blockIdx.x + 1) / gridDim.x;
  }

  template <class Visit>
  __device__ __forceinline__ void visit(Visit visit) const {
    for (int64_t t = begin_; t < end_; ++t) {
      const int64_t nth = t % queries_;
      visit(Tile{list_ == nullptr ? nth : list_[nth], first_key_ + t / queries_ * kKeyTile,
                 t == begin_ || nth == 0, t + 1 == end_ || nth + 1 == queries_});
    }
  }

  int k_tiles;
  bool keys_resident;

 private:
  const int* list_;
  int64_t first_key_, queries_, begin_, end_;
};

__device__ inline void produce_keys(Shared& shared, const MainloopParams& params,
                                    const Tiles& tiles) {
  KeyState write;
  tiles.visit([&](const Tile& tile) {
    if (tiles.keys_resident && !tile.first) return;
    const int blocks = static_cast<int>(
        min(int64_t{kKeyTile / kPanel}, ceil_div(params.last_key - tile.first_key, kPanel)));
    for (int k = 0; k < tiles.k_tiles; ++k, write.advance(1)) {
      write.wait_empty(shared.key_pipeline);
      MemoryBarrier& full = shared.key_pipeline.full[write.stage];
      barrier_arrive_expect(full, blocks * kBlockBytes);
      for (int b = 0; b < blocks; ++b) {
        bulk_copy(
            shared.keys[write.stage] + b * kBlockBytes,
            params.keys.codes + block_offset(tile.first_key + b * kPanel, k, params.keys.width),
            kBlockBytes, full);
      }
    }
  });
}

__device__ inline void produce_queries(Shared& shared, const MainloopParams& params,
                                       const Tiles& tiles) {
  QueryState write;
  tiles.visit([&](const Tile& tile) {
    for (int i = 0; i < kConsumers * tiles.k_tiles; ++i, write.advance(1)) {
      const int consumer = tiles.keys_resident ? i / tiles.k_tiles : i % kConsumers;
      const int k = tiles.keys_resident ? i % tiles.k_tiles : i / kConsumers;
      write.wait_empty(shared.query_pipeline);
      MemoryBarrier& full = shared.query_pipeline.full[write.stage];
      barrier_arrive_expect(full, kQueries * kTileK);
      const int64_t first = tile.query_tile * kQueryTile + consumer * kQueries;
#pragma unroll
      for (int row = 0; row < kQueries; row += kPanel) {
        bulk_copy(shared.queries[write.stage] + row * kTileK,
                  params.queries + block_offset(first + row, k, params.keys.width), kBlockBytes,
                  full);
      }
    }
  });
}

__device__ inline void produce_bounds(Shared& shared, const MainloopParams& params,
                                      const Tiles& tiles) {
  BoundsState write;
  tiles.visit([&](const Tile& tile) {
    if (!tile.first) return;
    write.wait_empty(shared.bounds_pipeline);
    shared.bounds[write.stage].load(params, tile.first_key, threadIdx.x % kWarp, kWarp);
    barrier_arrive(shared.bounds_pipeline.full[write.stage]);
    write.advance(1);
  });
}

// Starts dots (+)= the products of one k-tile.
__device__ __forceinline__ void multiply_k_tile(const int8_t* queries, const uint8_t* keys,
                                                int (&dots)[4][8][4], bool add) {
  constexpr int kDepth = 32;  // of one wgmma
#pragma unroll
  for (int column = 0; column < kTileK; column += kDepth) {
    const int at = column / 16 * kNextColumns;
    wgmma_s8u8(dots, wgmma_operand(shared_address(queries + at), kNextColumns, kNextRows),
               wgmma_operand(shared_address(keys + at), kNextColumns, kNextRows),
               add || column > 0);
  }
}

// The stages that a consumer reads.
struct ReadState {
  KeyState keys;
  QueryState queries;

  __device__ void release(Shared& shared, bool keys_too) const {
    if (threadIdx.x % kWarp != 0) return;
    barrier_arrive(shared.query_pipeline.empty[queries.stage]);
    if (keys_too) barrier_arrive(shared.key_pipeline.empty[keys.stage]);
  }
};

template <class Epilogue>
__device__ __forceinline__ void consume(Shared& shared, const Tiles& tiles, int consumer,
                                        const Epilogue& epilogue) {
  // Which stages the consumer's queries are in: tile by tile, or k-tile by k-tile.
  const int stride = tiles.keys_resident ? 1 : kConsumers;
  const int gap = tiles.keys_resident ? (kConsumers - 1) * tiles.k_tiles : 0;
  ReadState read;
  read.queries.advance(tiles.keys_resident ? consumer * tiles.k_tiles : consumer);
  BoundsState read_bounds;
  int turn = 1 - consumer;  // parity: the first one begins
  const bool first_lane = threadIdx.x % kWarp == 0;
  const int warp = threadIdx.x % kWarpGroup / kWarp;
  int dots[4][8][4] = {};
  tiles.visit([&](const Tile& tile) {
    const bool release_keys = !tiles.keys_resident || tile.last;
    const KeyState first_keys = read.keys;
    // All earlier stages were full then.
    if (tiles.keys_resident) barrier_wait(shared.turns[consumer], turn);
    ReadState previous;
    for (int k = 0; k < tiles.k_tiles; ++k) {
      read.keys.wait_full(shared.key_pipeline);
      read.queries.wait_full(shared.query_pipeline);
      wgmma_fence();
      multiply_k_tile(shared.queries[read.queries.stage], shared.keys[read.keys.stage], dots,
                      k > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (k > 0) previous.release(shared, release_keys);
      previous = read;
      read.keys.advance(1);
      read.queries.advance(stride);
    }
    if (tiles.keys_resident && first_lane) barrier_arrive(shared.turns[1 - consumer]);
    turn = 1 - turn;
    wgmma_finish(dots);
    previous.release(shared, release_keys);
    read.queries.advance(gap);
    if (!release_keys) read.keys = first_keys;

    read_bounds.wait_full(shared.bounds_pipeline);
    const TileBounds<kKeyTile>& bounds = shared.bounds[read_bounds.stage];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const int column = t * kStripKeys;
      epilogue(dots[t],
               Strip{tile.query_tile * kQueryTile + consumer * kQueries + warp * kStripQueries,
                     tile.first_key + column, bounds.scale + column, bounds.error + column,
                     bounds.norm + column});
    }
    __syncwarp();
    if (!tile.last) return;
    if (first_lane) barrier_arrive(shared.bounds_pipeline.empty[read_bounds.stage]);
    read_bounds.advance(1);
  });
}

// Code for other devices takes no block of kThreads, as has_code() expects.
#if defined(FASTCLIP_EMULATE) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTCLIP_HOPPER
inline constexpr int kMostThreads = kThreads;
#else
inline constexpr int kMostThreads = 1;
#endif

template <class Epilogue>
__global__ void __launch_bounds__(kMostThreads, 1)
    screen_kernel([[maybe_unused]] MainloopParams params, [[maybe_unused]] Epilogue epilogue) {
#ifdef FASTCLIP_HOPPER
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.key_pipeline.init(1, kConsumers * kWarps);
    shared.query_pipeline.init(1, kWarps);
    shared.bounds_pipeline.init(kWarp, kConsumers * kWarps);
    for (MemoryBarrier& turn : shared.turns) barrier_init(turn, kWarps);
    barrier_init_fence();
  }
  __syncthreads();
  const Tiles tiles(params);
  // From lane 0, so that the compiler knows it to be the same in all.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp < kWarps) {
    fewer_registers<Tuned::kProducerRegisters>();
    const bool first_lane = threadIdx.x % kWarp == 0;
    if (warp == 0 && first_lane) produce_keys(shared, params, tiles);
    if (warp == 1 && first_lane) produce_queries(shared, params, tiles);
    if (warp == 2) produce_bounds(shared, params, tiles);
  } else {
    more_registers<Tuned::kConsumerRegisters>();
    consume(shared, tiles, warp / kWarps - 1, epilogue);
  }
#else
  __trap();
#endif
}

template <class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
  const int64_t tiles = params.query_tiles * ceil_div<int64_t>(params.num_keys(), kKeyTile);
  const int64_t blocks = std::min<int64_t>(tiles, multiprocessors());
  launch(screen_kernel<Epilogue>, static_cast<unsigned>(blocks), kThreads, sizeof(Shared), stream,
         params, epilogue);
}

}  // namespace sm90
}  // namespace fastclip::cuda
