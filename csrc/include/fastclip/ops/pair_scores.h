#pragma once

#include "fastclip/operation.h"

namespace fastclip {

// out[i, p] = exact score of query i and key indices[i, p].
struct PairScoresCall {
  Matrix queries;
  Matrix keys;
  Table<const int64_t> indices;
  Table<float> out;
};

namespace cpu {
void pair_scores(const PairScoresCall& call, int threads, Interrupt& interrupt);
}  // namespace cpu

namespace cuda {
void pair_scores(const PairScoresCall& call, Stream stream);
}  // namespace cuda

}  // namespace fastclip
