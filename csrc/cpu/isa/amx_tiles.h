// The matrix units of Sapphire Rapids and later (AMX). tests/cpp/amx_test.cpp compiles this with
// instructions of its own, for processors that lack them.
#pragma once

#include <cstdint>

#include "fastclip/screen.h"

namespace fastclip::cpu {
namespace {

// Products of codes: 32 queries by one panel, in tiles of 16 rows of 64 bytes. Two tiles hold
// queries (4 and 5) and two 64 codes of a panel (6 and 7, 16 keys each), which lie in memory as the
// instruction takes them; four hold sums. A step of 64 codes needs 4 x 16 cycles for products and 4
// x 8 for loads, if these come from the first-level cache.
class AmxTiles {
 public:
  static constexpr int kRows = 16;
  static constexpr int kQueries = 2 * kRows;

  // For so many queries, at most kQueries.
  void configure(int queries) {
    if (queries == queries_) return;
    queries_ = queries;
    const int first = queries < kRows ? queries : kRows, second = queries - first;
    const int rows[8] = {first, first, second, second, first, second, kRows, kRows};
    Layout layout;
    for (int tile = 0; tile < 8; ++tile) {
      layout.rows[tile] = static_cast<uint8_t>(rows[tile]);
      layout.bytes_of_row[tile] = rows[tile] > 0 ? 64 : 0;
    }
    // GCC takes the instruction to read 8 bytes, and leaves out what is stored in the others where
    // all of them are constants.
    asm volatile("" : : "m"(layout));
    _tile_loadconfig(&layout);
  }

  // At the end: registers that are in use are saved when threads change. (A destructor would need
  // the standard library for exceptions.)
  void release() {
    _tile_release();
    queries_ = 0;
  }

  // dots[m][j] = the products of query m and key j of the panel.
  void multiply(const int8_t* queries, const uint8_t* panel, int64_t width,
                int32_t (*dots)[kPanel]) const {
    constexpr int kCodes = 64, kTileKeys = 16;
    constexpr int kFours = 4 * kPanel;  // bytes from four codes of the keys to the next four
    const int8_t* second = queries + kRows * width;
    const bool both = queries_ > kRows;
    _tile_zero(0);
    _tile_zero(1);
    if (both) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t i = 0; i < width; i += kCodes) {
      const uint8_t* keys = panel + i * kPanel;
      _tile_loadd(6, keys, kFours);
      _tile_loadd(4, queries + i, width);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(7, keys + 4 * kTileKeys, kFours);
      _tile_dpbsud(1, 4, 7);
      if (!both) continue;
      _tile_loadd(5, second + i, width);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
    _tile_stored(0, dots[0], kFours);
    _tile_stored(1, dots[0] + kTileKeys, kFours);
    if (!both) return;
    _tile_stored(2, dots[kRows], kFours);
    _tile_stored(3, dots[kRows] + kTileKeys, kFours);
  }

  // Products of tiles that stay where they are, for the peak: returns how many operations these
  // are.
  static double multiply_registers(int64_t steps) {
    AmxTiles tiles;
    tiles.configure(kQueries);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t s = 0; s < steps; ++s) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
    tiles.release();
    return 2.0 * 4 * kRows * kRows * 64 * static_cast<double>(steps);
  }

 private:
  struct alignas(64) Layout {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_of_row[16] = {};
    uint8_t rows[16] = {};
  };
  int queries_ = 0;
};

}  // namespace
}  // namespace fastclip::cpu
