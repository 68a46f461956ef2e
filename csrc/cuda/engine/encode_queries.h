// A block of queries, coded on the device for the screen.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/arch/screen.cuh"
#include "cuda/engine/workspace.h"
#include "fastclip/operation.h"

namespace fastclip::cuda {

constexpr int64_t padded_queries(int64_t count) {
  return (count + kQueryTile - 1) / kQueryTile * kQueryTile;
}

// So many keys that a ScreenCall has about max_pairs pairs.
inline int64_t keys_at_a_time(int64_t num_queries, int64_t num_keys, int64_t max_pairs) {
  const int64_t steps = max_pairs / padded_queries(num_queries) / kKeyStep;
  return std::clamp<int64_t>(steps, 1,
                             std::max<int64_t>(1, ceil_div<int64_t>(num_keys, kKeyStep))) *
         kKeyStep;
}

// Of the codes of the keys, 0 without a screen.
inline int64_t width_of(const ScreenKeys* screen) { return screen == nullptr ? 0 : screen->width; }

// The kernels number keys in 32 bits.
inline void check_number_of_keys(const Matrix& keys) {
  if (keys.rows <= kMostKeys) return;
  throw std::invalid_argument("keys: at most " + std::to_string(kMostKeys) +
                              " can be searched at a time on a CUDA device, got " +
                              std::to_string(keys.rows));
}

// The arrays of CodedQueries, and what bounds the keys as a whole.
struct QueryArrays {
  QueryArrays(Workspace& workspace, int64_t padded, int64_t width)
      : codes(workspace.take<int8_t>(padded * width)),
        coefficients(workspace.take<ScreenQuery>(padded)),
        gamma(workspace.take<float>(padded)),
        scale(workspace.take<double>(padded)),
        offset(workspace.take<double>(padded)),
        longest_key(workspace.take<unsigned>(1)),
        center_length(workspace.take<double>(1)) {}

  int8_t* codes;
  ScreenQuery* coefficients;
  float* gamma;
  double* scale;
  double* offset;
  unsigned* longest_key;  // bits of the largest bound on a key's distance from the centre
  double* center_length;  // bound on the length of the centre
};

// Bounds the keys as a whole; before queries are coded.
void bound_keys(const ScreenKeys& keys, const QueryArrays& arrays, Stream stream);

// Codes queries; gamma is infinite where nothing can be said of the scores of one.
CodedQueries encode_queries(const Matrix& queries, const ScreenKeys& keys,
                            const QueryArrays& arrays, Stream stream);

}  // namespace fastclip::cuda
