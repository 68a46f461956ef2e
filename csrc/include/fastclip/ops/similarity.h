#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// out[i, j] = exact score of query i and key j, rounded from float32 to out's type.
struct SimilarityCall {
  Matrix queries;
  Matrix keys;
  MutableMatrix out;
};

namespace cpu {
void similarity(const SimilarityCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
void similarity(const SimilarityCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
