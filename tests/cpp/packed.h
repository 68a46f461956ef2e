// Keys, packed.
#pragma once

#include <vector>

#include "fastclip/ops/pack.h"
#include "fastclip/screen.h"
#include "run.h"

namespace fastclip::tests {

struct Packed {
  Packed(const Matrix& keys, Run& run)
      : padded(padded_keys(keys.rows)),
        center(keys.cols),
        codes(padded * code_width(keys.cols)),
        bounds(3 * padded),
        view{codes.data(),
             bounds.data(),
             bounds.data() + padded,
             bounds.data() + 2 * padded,
             center.data(),
             keys.rows,
             keys.cols,
             code_width(keys.cols)} {
    cpu::pack({keys, array(center), array(codes), table(bounds, 3)}, run.threads, run.interrupt);
  }

  int64_t padded;
  Floats center;
  std::vector<uint8_t> codes;
  Floats bounds;
  ScreenKeys view;
};

}  // namespace fastclip::tests
