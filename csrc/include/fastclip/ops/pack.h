#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// Fills the arrays of ScreenKeys, padded to whole panels of keys. On devices the codes lie at
// code_offset (cuda/arch/code_layout.h) instead.
struct PackCall {
  Matrix keys;
  Array<float> center;   // what the keys are centred on: on devices given, else to be filled
  Array<uint8_t> codes;  // one for each number of the padded keys
  Table<float> bounds;   // scale, error and norm of each padded key

  const char* problem() const {
    const int64_t padded = padded_keys(keys.rows);
    if (codes.count() != padded * code_width(keys.cols)) return "codes: not as many as needed";
    return bounds.sizes[0] != 3 || bounds.sizes[1] != padded ? "bounds: not as many as needed"
                                                             : nullptr;
  }
};

namespace cpu {
// Returns the lowest row that holds a NaN or an infinity, or -1.
int64_t pack(const PackCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
void pack(const PackCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
