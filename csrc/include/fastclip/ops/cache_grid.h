#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// Adds to right[beta, alpha] how many images have their label's class for the first of those with
// the largest  zero_shot[c] + alpha * sum over support j of c of exp(-beta (1 - affinity j)).
struct CacheGridCall {
  Table<const double> affinities;  // [images, support]
  Table<const double> zero_shot;   // [images, classes], at least one class
  Array<const int64_t> labels;
  Array<const int64_t> support_labels;
  double first_beta, beta_step;
  Array<const double> alphas;  // they ascend
  Table<int64_t> right;        // [betas, alphas]

  int64_t images() const { return affinities.sizes[0]; }
  int64_t support() const { return affinities.sizes[1]; }
  int64_t classes() const { return zero_shot.sizes[1]; }
  int64_t betas() const { return right.sizes[0]; }
  int64_t num_alphas() const { return alphas.sizes[0]; }
};

namespace cpu {
void cache_grid(const CacheGridCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

}  // namespace fastclip
