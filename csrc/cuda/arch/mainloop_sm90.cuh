// The mainloop for Hopper (compute capability 9.0): wgmma, and bulk copies by warps that do nothing
// else.
//
// A block keeps a tile of keys in shared memory and goes through the tiles of queries with it, so
// that keys come from memory once and each byte of a query serves 256 keys. Codes lie in memory as
// wgmma takes them (code_layout.h): a copy of a block of codes is one instruction without a tensor
// map.
//
// The first warp-group copies: one warp keys, one queries, one the keys' bounds. The two others,
// the consumers, each multiply 64 queries by the 256 keys, in turns, so that one has the tensor
// cores while the other is in its sink. All stages of the queries serve the one whose turn it is.
//
// Rows of more than kKeyStages steps (768 codes) do not stay: keys are then copied again for each
// tile of queries, and both consumers take the same step at a time.
//
// The floors, for a multiprocessor, rows of 512 codes and 64 queries of a consumer by 256 keys:
//   products           2,048 cycles of the tensor cores
//   sink               1,150 instructions of each of 4 warps, of topk: 9 lane operations a score
//   shared memory      1,280 cycles for wgmma, 256 for copies, 384 or more for the bounds of keys
//   second-level cache 32 KB, 16 bytes a cycle; on all 132 of an H100 3.9 TB/s
// The sink must take no longer than the products of the other consumer, or it is what counts.
//
// An H100 (1,979 TOP/s of int8, 3.35 TB/s) needs at least 25.9 ms for the products of 50,000 x
// 1,000,000 rows of 512 codes and 0.6 ms for the bytes of the keys, which come from memory once for
// each 16,384 queries. Prediction: 30 to 40 ms, by the clock that its power leaves.
#pragma once

#include <algorithm>

#include "cuda/arch/mainloop_params.cuh"
#include "cuda/arch/ptx_sm90.h"

namespace fastclip::cuda {
namespace sm90 {

using Tuning = tuning::MainloopSm90;
inline constexpr int kKeyTile = Tuning::kKeyTile;
inline constexpr int kConsumers = Tuning::kConsumers;
inline constexpr int kQueries = kQueryTile / kConsumers;
inline constexpr int kKeyStages = Tuning::kKeyStages;      // k-tiles of keys
inline constexpr int kQueryStages = Tuning::kQueryStages;  // k-tiles of the queries of a consumer
inline constexpr int kBoundsStages = Tuning::kBoundsStages;
inline constexpr int kWarpGroup = 128;
inline constexpr int kWarps = kWarpGroup / kWarp;  // of a warp-group
inline constexpr int kThreads = (1 + kConsumers) * kWarpGroup;
static_assert(kQueries == 64 && kKeyTile == 256, "as wgmma has it");
static_assert(kQueryStages % kConsumers == 0, "step by step, each consumer has places of its own");

// Places that a copying warp fills in turn and consumers give back.
template <int size>
struct Ring {
  MemoryBarrier full[size];
  MemoryBarrier empty[size];

  // Thread 0 calls this; so many threads say that a place is full, and so many that it is empty.
  __device__ void init(int fill, int release) {
    for (int i = 0; i < size; ++i) {
      barrier_init(full[i], fill);
      barrier_init(empty[i], release);
    }
  }
};

// A place in a ring. Who waits for a place to be full has to know that it was full the round
// before: a barrier tells only odd rounds from even ones.
template <int size>
struct Cursor {
  int place = 0;
  int round = 0;  // modulo 2

  __device__ void advance(int places) {
    place += places;
    round = (round + place / size) % 2;
    place %= size;
  }
  __device__ void wait_full(Ring<size>& ring) const { barrier_wait(ring.full[place], round); }
  __device__ void wait_empty(Ring<size>& ring) const { barrier_wait(ring.empty[place], 1 - round); }
};

struct Shared {
  uint8_t keys[kKeyStages][kKeyTile * kStep];
  int8_t queries[kQueryStages][kQueries * kStep];
  TileBounds<kKeyTile> bounds[2];
  Ring<kKeyStages> key_ring;
  Ring<kQueryStages> query_ring;
  Ring<2> bounds_ring;
  MemoryBarrier turns[kConsumers];
};
static_assert(sizeof(Shared) <= 227 * 1024);

using KeyCursor = Cursor<kKeyStages>;
using QueryCursor = Cursor<kQueryStages>;
using BoundsCursor = Cursor<2>;

struct Tile {
  int64_t query_tile;
  int64_t first_key;
  bool first, last;  // of the block's tiles with these keys
};

// The tiles of a block: neighbours, of which those with the same keys come one after the other.
class Tiles {
 public:
  __device__ explicit Tiles(const ScreenCall& call)
      : steps(static_cast<int>(call.keys.width / kStep)),
        keys_stay(steps <= kKeyStages),
        list_(call.tile_list),
        first_key_(call.first_key),
        queries_(call.tile_list == nullptr ? call.query_tiles : *call.tile_count) {
    const int64_t tiles = queries_ * ceil_div<int64_t>(call.num_keys(), kKeyTile);
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

  int steps;
  bool keys_stay;

 private:
  const int* list_;
  int64_t first_key_, queries_, begin_, end_;
};

__device__ inline void copy_keys(Shared& shared, const ScreenCall& call, const Tiles& tiles) {
  KeyCursor to;
  tiles.visit([&](const Tile& tile) {
    if (tiles.keys_stay && !tile.first) return;
    const int blocks = static_cast<int>(
        min(int64_t{kKeyTile / kPanel}, ceil_div(call.last_key - tile.first_key, kPanel)));
    for (int s = 0; s < tiles.steps; ++s, to.advance(1)) {
      to.wait_empty(shared.key_ring);
      MemoryBarrier& full = shared.key_ring.full[to.place];
      barrier_arrive_expect(full, blocks * kBlockBytes);
      for (int b = 0; b < blocks; ++b) {
        bulk_copy(shared.keys[to.place] + b * kBlockBytes,
                  call.keys.codes + block_offset(tile.first_key + b * kPanel, s, call.keys.width),
                  kBlockBytes, full);
      }
    }
  });
}

__device__ inline void copy_queries(Shared& shared, const ScreenCall& call, const Tiles& tiles) {
  QueryCursor to;
  tiles.visit([&](const Tile& tile) {
    for (int i = 0; i < kConsumers * tiles.steps; ++i, to.advance(1)) {
      const int consumer = tiles.keys_stay ? i / tiles.steps : i % kConsumers;
      const int s = tiles.keys_stay ? i % tiles.steps : i / kConsumers;
      to.wait_empty(shared.query_ring);
      MemoryBarrier& full = shared.query_ring.full[to.place];
      barrier_arrive_expect(full, kQueries * kStep);
      const int64_t first = tile.query_tile * kQueryTile + consumer * kQueries;
#pragma unroll
      for (int row = 0; row < kQueries; row += kPanel) {
        bulk_copy(shared.queries[to.place] + row * kStep,
                  call.queries + block_offset(first + row, s, call.keys.width), kBlockBytes, full);
      }
    }
  });
}

__device__ inline void load_bounds(Shared& shared, const ScreenCall& call, const Tiles& tiles) {
  BoundsCursor to;
  tiles.visit([&](const Tile& tile) {
    if (!tile.first) return;
    to.wait_empty(shared.bounds_ring);
    shared.bounds[to.place].load(call, tile.first_key, threadIdx.x % kWarp, kWarp);
    barrier_arrive(shared.bounds_ring.full[to.place]);
    to.advance(1);
  });
}

// Starts dots (+)= the products of one step.
__device__ __forceinline__ void multiply_step(const int8_t* queries, const uint8_t* keys,
                                              int (&dots)[4][8][4], bool add) {
  constexpr int kDepth = 32;  // codes that wgmma takes
#pragma unroll
  for (int column = 0; column < kStep; column += kDepth) {
    const int at = column / 16 * kNextColumns;
    wgmma_s8u8(dots, wgmma_operand(shared_address(queries + at), kNextColumns, kNextRows),
               wgmma_operand(shared_address(keys + at), kNextColumns, kNextRows),
               add || column > 0);
  }
}

// The places of a step.
struct Step {
  KeyCursor keys;
  QueryCursor queries;

  __device__ void release(Shared& shared, bool keys_too) const {
    if (threadIdx.x % kWarp != 0) return;
    barrier_arrive(shared.query_ring.empty[queries.place]);
    if (keys_too) barrier_arrive(shared.key_ring.empty[keys.place]);
  }
};

template <class Sink>
__device__ __forceinline__ void consume(Shared& shared, const Tiles& tiles, int consumer,
                                        const Sink& sink) {
  // Where the consumer's queries lie in their ring: tile by tile, or step by step.
  const int stride = tiles.keys_stay ? 1 : kConsumers;
  const int gap = tiles.keys_stay ? (kConsumers - 1) * tiles.steps : 0;
  Step at;
  at.queries.advance(tiles.keys_stay ? consumer * tiles.steps : consumer);
  BoundsCursor bounds_at;
  int turn = 1 - consumer;  // parity: the first one begins
  const bool first_lane = threadIdx.x % kWarp == 0;
  const int warp = threadIdx.x % kWarpGroup / kWarp;
  int dots[4][8][4] = {};
  tiles.visit([&](const Tile& tile) {
    const bool leave_keys = !tiles.keys_stay || tile.last;
    const KeyCursor first = at.keys;
    // All places before were full then.
    if (tiles.keys_stay) barrier_wait(shared.turns[consumer], turn);
    Step before;
    for (int s = 0; s < tiles.steps; ++s) {
      at.keys.wait_full(shared.key_ring);
      at.queries.wait_full(shared.query_ring);
      wgmma_fence();
      multiply_step(shared.queries[at.queries.place], shared.keys[at.keys.place], dots, s > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (s > 0) before.release(shared, leave_keys);
      before = at;
      at.keys.advance(1);
      at.queries.advance(stride);
    }
    if (tiles.keys_stay && first_lane) barrier_arrive(shared.turns[1 - consumer]);
    turn = 1 - turn;
    wgmma_finish(dots);
    before.release(shared, leave_keys);
    at.queries.advance(gap);
    if (!leave_keys) at.keys = first;

    bounds_at.wait_full(shared.bounds_ring);
    const TileBounds<kKeyTile>& bounds = shared.bounds[bounds_at.place];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const int column = t * kStripKeys;
      sink(dots[t], Strip{tile.query_tile * kQueryTile + consumer * kQueries + warp * kStripQueries,
                          tile.first_key + column, bounds.scale + column, bounds.error + column,
                          bounds.norm + column});
    }
    __syncwarp();
    if (!tile.last) return;
    if (first_lane) barrier_arrive(shared.bounds_ring.empty[bounds_at.place]);
    bounds_at.advance(1);
  });
}

template <class Sink>
__global__ void __launch_bounds__(kThreads, 1)
    screen_kernel([[maybe_unused]] ScreenCall call, [[maybe_unused]] Sink sink) {
#if defined(FASTCLIP_EMULATE) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.key_ring.init(1, kConsumers * kWarps);
    shared.query_ring.init(1, kWarps);
    shared.bounds_ring.init(kWarp, kConsumers * kWarps);
    for (MemoryBarrier& turn : shared.turns) barrier_init(turn, kWarps);
    barrier_init_fence();
  }
  __syncthreads();
  const Tiles tiles(call);
  // From lane 0, so that the compiler knows it to be the same in all.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  if (warp < kWarps) {
    fewer_registers<Tuning::kProducerRegisters>();
    const bool first_lane = threadIdx.x % kWarp == 0;
    if (warp == 0 && first_lane) copy_keys(shared, call, tiles);
    if (warp == 1 && first_lane) copy_queries(shared, call, tiles);
    if (warp == 2) load_bounds(shared, call, tiles);
  } else {
    more_registers<Tuning::kConsumerRegisters>();
    consume(shared, tiles, warp / kWarps - 1, sink);
  }
#endif
}

template <class Sink>
void screen(const ScreenCall& call, const Sink& sink, Stream stream) {
  const int64_t tiles = call.query_tiles * ceil_div<int64_t>(call.num_keys(), kKeyTile);
  const int64_t blocks = std::min<int64_t>(tiles, multiprocessors());
  launch(screen_kernel<Sink>, static_cast<unsigned>(blocks), kThreads, sizeof(Shared), stream, call,
         sink);
}

}  // namespace sm90
}  // namespace fastclip::cuda
