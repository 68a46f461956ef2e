// How the int8 codes of rows (fastclip/screen.h) lie in device memory.
#pragma once

#include "fastclip/host_device.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

// The layout is that of tensor cores and bulk copies: blocks of kPanel rows by one k-tile, the
// blocks of the same rows adjacent. A block is 4 x 4 core matrices of 8 rows by 16 codes, each
// contiguous, those of the same rows adjacent.
inline constexpr int kTileK = 64;  // codes of a row in a k-tile
inline constexpr int kBlockBytes = kPanel * kTileK;
inline constexpr int kNextColumns = 128;               // bytes to the core matrix of the next codes
inline constexpr int kNextRows = 128 * (kTileK / 16);  // bytes to that of the next rows
static_assert(kPanel == 32 && kWidth % kTileK == 0);

// Where a block begins; `row` is a multiple of kPanel.
FASTCLIP_HD inline int64_t block_offset(int64_t row, int64_t k_tile, int64_t width) {
  return row * width + k_tile * kBlockBytes;
}

// The offset of a code of a k-tile in a block, or in several contiguous blocks of further rows.
FASTCLIP_HD inline int offset_in_block(int row, int column) {
  return row / 8 * kNextRows + column / 16 * kNextColumns + row % 8 * 16 + column % 16;
}

FASTCLIP_HD inline int64_t code_offset(int64_t row, int64_t column, int64_t width) {
  return block_offset(row / kPanel * kPanel, column / kTileK, width) +
         offset_in_block(static_cast<int>(row % kPanel), static_cast<int>(column % kTileK));
}

}  // namespace fastclip::cuda
