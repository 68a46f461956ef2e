// The kernels on pixels of one instruction set, with vectors of W floats.
#pragma once

#include "cell.h"
#include "kernels.h"
#include "neighbours.h"

namespace fastclip::cpu {
namespace {

template <int W>
constexpr PixelKernels pixel_kernels() {
  return {
      CellKernels<W>::corner_bounds,
      CellKernels<W>::label_cell,
      NeighbourKernels<W>::affinities,
      NeighbourKernels<W>::weighted_mean,
  };
}

}  // namespace
}  // namespace fastclip::cpu
