// A block of queries, encoded on the device for the screen.
#pragma once

#include "cuda/arch/mainloop_params.cuh"
#include "cuda/engine/plan.h"
#include "cuda/engine/workspace.h"
#include "fastclip/matrix.h"

namespace fastclip::cuda {

// A block of queries as the screen sees it.
struct CodedQueries {
  const int8_t* codes;              // [padded, width], at code_offset
  const ScreenQuery* coefficients;  // [padded]
  const float* gamma;               // [padded], of screen.h
  const double* scale;              // [padded], s_q
  const double* offset;             // [padded], q.c
  int64_t count;

  FASTCLIP_HD int64_t tiles() const { return ceil_div<int64_t>(count, kQueryTile); }
};

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

// Bounds the keys as a whole. Call it before encode_queries.
void bound_keys(const ScreenKeys& keys, const QueryArrays& arrays, Stream stream);

// Encodes queries. Gamma is infinite where the screen knows nothing about the scores of a query.
CodedQueries encode_queries(const Matrix& queries, const ScreenKeys& keys,
                            const QueryArrays& arrays, Stream stream);

}  // namespace fastclip::cuda
