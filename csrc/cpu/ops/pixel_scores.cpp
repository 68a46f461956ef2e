#include "fastclip/ops/pixel_scores.h"

#include <limits>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"

namespace fastclip::cpu {
namespace {

// Reducer: the best pixel of each tag, the first of equals. Pixels must arrive in order.
struct Nearest {
  float value;
  int64_t location;

  void accumulate(const float* scores, int64_t count, int64_t first_pixel) {
    int64_t best = -1;
    for (int64_t j = 0; j < count; ++j) {
      if (scores[j] > value) {
        value = scores[j];
        best = j;
      }
    }
    if (best >= 0) location = first_pixel + best;
  }
};

}  // namespace

void pixel_scores(const PixelScoresCall& call, int threads, Interrupt& interrupt) {
  const auto &pixels = call.pixels, &tags = call.tags;
  const int64_t images = call.values.sizes[0], area = call.area;
  if (images == 0 || tags.rows == 0) return;
  const Kernels& isa = kernels();
  const int64_t key_block = key_block_rows(lane_steps(tags.cols), isa.key_tile);
  // Many images keep all threads busy by themselves; only few of them are split.
  const int threads_per_image = static_cast<int>(ceil_div<int64_t>(threads, images));
  const Plan plan(tags.rows, area, tuning::kMaxQueryBlock, key_block, key_block, threads_per_image);
  // A task scores a block of tags with a part of an image's pixels. Every score may be -infinity.
  std::vector<Nearest> nearest(static_cast<size_t>(images * plan.key_parts * tags.rows));

  parallel_for(images * plan.tasks(), threads, interrupt, [&](int64_t index) {
    const int64_t image = index / plan.tasks();
    const PlanTask task = plan.task(index % plan.tasks());
    const Matrix block = tags.slice(task.first_query, task.last_query);
    Nearest* best =
        nearest.data() + (image * plan.key_parts + task.part) * tags.rows + task.first_query;
    std::fill_n(best, block.rows, Nearest{-std::numeric_limits<float>::infinity(), task.first_key});
    sweep(isa, block, pixels.slice(image * area, (image + 1) * area), task.first_key, task.last_key,
          interrupt, [&](const float* scores, int64_t ld, int64_t begin, int64_t count) {
            for (int64_t i = 0; i < block.rows; ++i) {
              best[i].accumulate(scores + i * ld, count, begin);
            }
          });
  });

  for (int64_t image = 0; image < images; ++image) {
    const Nearest* parts = nearest.data() + image * plan.key_parts * tags.rows;
    for (int64_t tag = 0; tag < tags.rows; ++tag) {
      Nearest best = parts[tag];
      for (int64_t part = 1; part < plan.key_parts; ++part) {
        const Nearest& other = parts[part * tags.rows + tag];
        if (other.value > best.value) best = other;
      }
      call.values[image * tags.rows + tag] = best.value;
      call.locations[image * tags.rows + tag] = best.location;
    }
  }
}

}  // namespace fastclip::cpu
