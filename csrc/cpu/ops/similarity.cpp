#include "fastclip/ops/similarity.h"

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/float16.h"

namespace fastclip::cpu {
namespace {

template <class T, class Convert>
void store(const float* scores, int64_t count, char* row, int64_t first, Convert convert) {
  T* out = reinterpret_cast<T*>(row) + first;
  for (int64_t j = 0; j < count; ++j) out[j] = convert(scores[j]);
}

void store(const float* scores, int64_t count, DType dtype, char* row, int64_t first) {
  switch (dtype) {
    case DType::kFloat32:
      return store<float>(scores, count, row, first, [](float x) { return x; });
    case DType::kFloat16:
      return store<uint16_t>(scores, count, row, first, float_to_half);
    case DType::kBFloat16:
      return store<uint16_t>(scores, count, row, first, float_to_bfloat16);
  }
}

}  // namespace

void similarity(const SimilarityCall& call, int threads, Interrupt& interrupt) {
  const auto &queries = call.queries, &keys = call.keys;
  const MutableMatrix& out = call.out;
  const Kernels& isa = kernels();
  threads = useful_threads(threads, queries.rows, keys.rows, keys.cols);
  const int64_t key_block = key_block_rows(lane_steps(queries.cols), isa.key_tile);
  const Plan plan(queries.rows, keys.rows, tuning::kMaxQueryBlock, key_block, key_block, threads);
  parallel_for(plan.tasks(), threads, interrupt, [&](int64_t index) {
    const PlanTask task = plan.task(index);
    sweep(isa, queries.slice(task.first_query, task.last_query), keys, task.first_key,
          task.last_key, interrupt,
          [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = task.first_query; i < task.last_query; ++i) {
              store(scores + (i - task.first_query) * ld, count, out.dtype, out.row(i), begin);
            }
          });
  });
}

}  // namespace fastclip::cpu
