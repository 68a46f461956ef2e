// Keys, packed.
#pragma once

#include <vector>

#include "cpu/ops.h"
#include "fastclip/screen.h"
#include "run.h"

namespace fastclip::tests {

struct Packed {
  Packed(const Matrix& keys, Run& run)
      : center(keys.cols),
        codes((keys.rows + kPanel) * code_width(keys.cols)),
        scale(keys.rows + kPanel),
        error(keys.rows + kPanel),
        norm(keys.rows + kPanel),
        view{codes.data(),  scale.data(), error.data(), norm.data(),
             center.data(), keys.rows,    keys.cols,    code_width(keys.cols)} {
    cpu::pack(keys, view.width, center.data(), codes.data(), scale.data(), error.data(),
              norm.data(), run.threads, run.interrupt);
  }

  Floats center;
  std::vector<uint8_t> codes;
  Floats scale, error, norm;
  ScreenKeys view;
};

}  // namespace fastclip::tests
