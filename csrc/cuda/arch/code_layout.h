// How the int8 codes of rows (fastclip/screen.h) lie in device memory.
#pragma once

#include "fastclip/host_device.h"
#include "fastclip/screen.h"

namespace fastclip::cuda {

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

}  // namespace fastclip::cuda
