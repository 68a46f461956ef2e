#include "cuda/engine/fixed_screen.cuh"

namespace fastclip::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void threshold_kernel(CodedQueries queries, const float* scores,
                                 ScreenThreshold* thresholds) {
  const int64_t q = int64_t{blockIdx.x} * kThreads + threadIdx.x;
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

FixedPlan::FixedPlan(int64_t num_queries, int64_t num_keys, int64_t at_once)
    : queries(std::max<int64_t>(1, std::min(num_queries, at_once))),
      keys(keys_at_a_time(queries, num_keys, tuning().search_pairs)),
      open(std::min(tuning().search_open, queries * keys)) {}

void begin_fixed(const Matrix& queries, const ScreenKeys& keys, const float* scores,
                 const QueryArrays& arrays, ScreenThreshold* thresholds, Stream stream) {
  const CodedQueries coded = encode_queries(queries, keys, arrays, stream);
  const int64_t padded = coded.tiles() * kQueryTile;
  launch(threshold_kernel, static_cast<unsigned>(ceil_div<int64_t>(padded, kThreads)), kThreads, 0,
         stream, coded, scores, thresholds);
}

}  // namespace fastclip::cuda
