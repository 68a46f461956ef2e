#include "cuda/engine/fixed_screen.cuh"
#include "cuda/tuning.h"

namespace fastclip::cuda {
namespace {

__global__ void threshold_kernel(CodedQueries queries, const float* scores,
                                 ScreenThreshold* thresholds) {
  const int64_t q = global_thread();
  if (q >= queries.tiles() * kQueryTile) return;
  if (q >= queries.count) {
    thresholds[q] = {NAN, NAN};
  } else if (!(queries.gamma[q] < INFINITY)) {
    thresholds[q] = {-INFINITY, INFINITY};  // nothing is known
  } else {
    thresholds[q] =
        screen_threshold(scores[q], queries.offset[q], queries.scale[q], queries.gamma[q]);
  }
}

}  // namespace

void begin_fixed(const Matrix& queries, const ScreenKeys& keys, const float* scores,
                 const QueryArrays& arrays, ScreenThreshold* thresholds, Stream stream) {
  const CodedQueries coded = encode_queries(queries, keys, arrays, stream);
  launch(threshold_kernel, blocks_for(coded.tiles() * kQueryTile), tuned::kThreads, 0, stream,
         coded, scores, thresholds);
}

}  // namespace fastclip::cuda
