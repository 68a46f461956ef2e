// Register tiles: how many sums the kernels of each instruction set keep in registers. More would
// spill, since some registers are needed for operands; fewer would wait for the latency of the
// multiply-add.
#pragma once

namespace fastclip::cpu {

struct TileSizes {
  int vector_bytes;
  int exact_queries, exact_keys;     // one vector of float64 sums for each pair (exact_tile.h)
  int screen_queries;                // with one panel of keys (screen_tile.h)
  int row_queries;                   // with four keys, a vector for each pair (row_tile.h)
  int value_queries, value_vectors;  // vectors of keys (value_tile.h)
};

// SSE2 or 128-bit NEON: 16 registers, or more.
inline constexpr TileSizes kPortableTiles = {
    .vector_bytes = 16,
    .exact_queries = 3,
    .exact_keys = 3,
    .screen_queries = 2,
    .row_queries = 2,
    .value_queries = 4,
    .value_vectors = 2,
};

// 32 registers.
inline constexpr TileSizes kNeonTiles = {
    .vector_bytes = 16,
    .exact_queries = 4,
    .exact_keys = 5,
    .screen_queries = 2,
    .row_queries = 2,
    .value_queries = 8,
    .value_vectors = 2,
};

// 16 registers.
inline constexpr TileSizes kAvx2Tiles = {
    .vector_bytes = 32,
    .exact_queries = 4,
    .exact_keys = 3,
    .screen_queries = 2,
    .row_queries = 3,
    .value_queries = 6,
    .value_vectors = 2,
};

// With narrow sums (kernels.h), of one vector of keys at a time; four vectors of their codes are in
// registers besides.
inline constexpr TileSizes kNarrowAvx2Tiles = [] {
  TileSizes tiles = kAvx2Tiles;
  tiles.screen_queries = 6;
  return tiles;
}();

// 32 registers.
inline constexpr TileSizes kAvx512Tiles = {
    .vector_bytes = 64,
    .exact_queries = 6,
    .exact_keys = 4,
    .screen_queries = 12,
    .row_queries = 6,
    .value_queries = 12,
    .value_vectors = 2,
};

}  // namespace fastclip::cpu
