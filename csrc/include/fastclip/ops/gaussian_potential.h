#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// out = log of the mean of exp(-t ||x_i - y_j||^2) over all pairs, or over i < j if `symmetric`: y
// must then be x.
struct GaussianPotentialCall {
  Matrix x;
  Matrix y;
  bool symmetric;
  double t;
  Array<const double> centre;  // on devices: the mean of the rows of y
  Scalar<double> out;
};

namespace cpu {
void gaussian_potential(const GaussianPotentialCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
// Rows are those of x.
Room gaussian_potential_room(const GaussianPotentialCall& call, int64_t most);
void gaussian_potential(const GaussianPotentialCall& call, int64_t at_once, void* memory,
                        Stream stream);
}  // namespace cuda

}  // namespace fastclip
