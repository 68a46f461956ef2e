// The kernels of one instruction set, from the templates that all of them share. Included by one
// file per instruction set, compiled with that set's flags. Nothing from the standard library may
// be instantiated here or in the templates: the linker keeps one copy of an inline function, and it
// could be this one.
//
// A class Isa says what differs:
//
//   kTiles                   one of tile_sizes.h
//   Ints, Floats             vectors of 32-bit lanes
//   at_least(floats, x)      a bit for each lane that is x or more
//   kQueryCodes              what codes of queries may be
//
// where these may be more than 0:
//
//   kSignedKeys              whether multiply_add takes the bytes of keys as signed
//   multiply_add(sum, k, q)  adds the four products of bytes that belong to each lane
//   to_float(ints)
//
// where sums are narrow, in place of multiply_add:
//
//   Shorts                   a vector of 16-bit lanes
//   products(k, q)           the sums of two products of bytes
//   widen(sum, shorts)       adds the two that belong to each lane
//
// and where there are matrix units:
//
//   Tiles                    as amx_tiles.h
//
// and where there is an instruction for it:
//
//   compress(vector, lanes)  moves the lanes whose bits are set to the front
#pragma once

#include "cpu/isa/cell.h"
#include "cpu/isa/encode.h"
#include "cpu/isa/exact_tile.h"
#include "cpu/isa/grid_tile.h"
#include "cpu/isa/kernels.h"
#include "cpu/isa/neighbours.h"
#include "cpu/isa/peak_tile.h"
#include "cpu/isa/screen_tile.h"
#include "cpu/isa/select_tile.h"
#include "cpu/isa/tile_sizes.h"
#include "cpu/isa/value_tile.h"

namespace fastclip::cpu {
namespace {  // each instruction set keeps its own copy

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
  constexpr TileSizes kTiles = Isa::kTiles;
  constexpr int kFloats = kTiles.vector_bytes / 4, kDoubles = kTiles.vector_bytes / 8;
  using Exact = ExactTile<kDoubles, kTiles.exact_queries, kTiles.exact_keys>;
  using Screen = ScreenTile<Isa>;
  using Select = SelectTile<Isa>;
  using Value = ValueTile<kFloats, kTiles.value_queries, kTiles.value_vectors>;
  using Grid = GridTile<kDoubles>;
  using Peak = PeakTile<Isa>;
  return {
      .name = name,
      .key_tile = Exact::kKeys,
      .load_rows = Exact::load_rows,
      .score_block = Exact::score_block,
      .score_pairs = Exact::score_pairs,
      .score_keys = Exact::score_keys,
      .find_nonfinite = Exact::find_nonfinite,
      .encode_rows = encode_rows<kFloats>,
      .query_codes = Isa::kQueryCodes,
      .find_hits = Screen::find_hits,
      .count_sure = Screen::count_sure,
      .write_uppers = Screen::write_uppers,
      .write_bounds = Screen::write_bounds,
      .sum_squares = Screen::sum_squares,
      .argmax = Select::argmax,
      .compress = Select::compress,
      .kth_largest = Select::kth_largest,
      .keep_at_least = Select::keep_at_least,
      .value =
          {
              .query_tile = Value::kQueries,
              .key_tile = Value::kKeys,
              .pack = Value::pack,
              .products = Value::products,
              .products_in_place = Value::products_in_place,
              .distances = Value::distances,
              .distances_from_products = Value::distances_from_products,
              .largest = Value::largest,
              .sum_exp = Value::sum_exp,
              .exp = Value::exp_rows,
          },
      .pixels =
          {
              .corner_bounds = CellKernels<kFloats>::corner_bounds,
              .label_cell = CellKernels<kFloats>::label_cell,
              .affinities = NeighbourKernels<kFloats>::affinities,
              .weighted_mean = NeighbourKernels<kFloats>::weighted_mean,
          },
      .grid =
          {
              .add_and_multiply = Grid::add_and_multiply,
              .where_ahead = Grid::where_ahead,
          },
      .peak =
          {
              .float32 = Peak::float32,
              .float64 = Peak::float64,
              .int8 = Peak::int8,
              .read = Peak::read,
          },
  };
}

}  // namespace
}  // namespace fastclip::cpu
