#include "fastclip/logsumexp.h"
#include "value_loop.cuh"
#include "values.h"

namespace fastclip::cuda {
namespace {

struct SignedScores {
  float sign;

  __device__ bool nothing_to_do() const { return false; }
  __device__ int64_t first_needed(int64_t) const { return 0; }
  __device__ float finish(float product, int64_t, int64_t) const { return sign * product; }
};

struct TakeLogarithm {
  double scale;
  float* out;

  __device__ void operator()(int64_t query, const LogSumExp& state) const {
    out[query] = static_cast<float>(state.finish(scale));
  }
};

}  // namespace

int64_t logsumexp_workspace(int64_t at_once, int64_t keys) {
  return at_once * ValueParts(keys).count * static_cast<int64_t>(sizeof(LogSumExp));
}

void logsumexp(const Matrix& queries, const Matrix& keys, double scale, float* out, int64_t at_once,
               void* workspace, Stream stream) {
  // exp(scale * s) = exp(-scale * -s), and negating a score is exact.
  const SignedScores scores{scale < 0 ? -1.0f : 1.0f};
  scale = scale < 0 ? -scale : scale;
  const ValueParts parts(keys.rows);
  auto* states = static_cast<LogSumExp*>(workspace);
  for (int64_t first = 0; first < queries.rows; first += at_once) {
    const int64_t count = std::min(at_once, queries.rows - first);
    launch(log_sum_exp_parts<false, SignedScores>,
           dim3(ceil_div<int64_t>(count, ValueTile::kRows), parts.count), dim3(ValueTile::kThreads),
           0, stream, queries.slice(first, first + count), keys, parts.keys, scale, scores, states);
    launch_merge(states, count, parts.count, scale, TakeLogarithm{scale, out + first}, stream);
  }
}

}  // namespace fastclip::cuda
