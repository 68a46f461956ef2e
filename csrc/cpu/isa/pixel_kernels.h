// The kernels on pixels of one instruction set, with vectors of W floats.
#pragma once

#include "cpu/isa/cell.h"
#include "cpu/isa/kernels.h"
#include "cpu/isa/neighbours.h"

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
