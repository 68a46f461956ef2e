#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/engine/mainloop.h"
#include "cpu/engine/screen.h"
#include "cpu/isa/isa.h"
#include "cpu/tuning.h"
#include "fastclip/ops/pack.h"

namespace fastclip::cpu {
namespace {

// Any centre is right. The mean of a sample gives bounds nearly as tight as the mean of all keys.
void sample_mean(const Kernels& isa, const Matrix& keys, float* center, Interrupt& interrupt) {
  const int64_t count = std::min(keys.rows, tuning::kCenterSample);
  std::vector<float> row(keys.cols);
  std::vector<double> sums(keys.cols);
  for (int64_t i = 0; i < count && !interrupt.poll(); ++i) {
    const int64_t at = i * keys.rows / count;
    isa.value.pack(keys.slice(at, at + 1), 1, row.data());
    for (int64_t j = 0; j < keys.cols; ++j) sums[j] += row[j];
  }
  for (int64_t j = 0; j < keys.cols; ++j) {
    center[j] = static_cast<float>(sums[j] / static_cast<double>(count));
  }
}

// Memory is cleared page by page when it is first touched; with small pages that takes longer than
// to compute the codes.
void ask_for_large_pages(void* data, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

// Codes of up to a panel of rows to [width / 4][kPanel][4], 128 added.
void interleave(const int8_t* rows, int64_t count, int64_t width, uint8_t* panel) {
  for (int64_t i = 0; i < width; i += 4) {
    for (int64_t r = 0; r < kPanel; ++r) {
      uint32_t four = 0;
      if (r < count) std::memcpy(&four, rows + r * width + i, 4);
      four ^= 0x80808080u;  // int8 to uint8 with 128 added
      std::memcpy(panel + (i / 4 * kPanel + r) * 4, &four, 4);
    }
  }
}

}  // namespace

int64_t pack(const PackCall& call, int threads, Interrupt& interrupt) {
  constexpr int64_t kPanelsPerTask = tuning::kPanelsPerPackTask;
  const Matrix& keys = call.keys;
  const int64_t width = code_width(keys.cols), padded = padded_keys(keys.rows);
  float* center = call.center.data;
  uint8_t* codes = call.codes.data;
  float *scale = call.bounds.data, *error = scale + padded, *norm = error + padded;
  if (keys.rows == 0) return -1;
  const Kernels& isa = kernels();
  const SeededRotation rotation(width);
  const int64_t panels = ceil_div(keys.rows, kPanel);
  ask_for_large_pages(codes, panels * kPanel * width);
  NonFiniteRow nonfinite;
  {
    FloatEnvironment environment;
    sample_mean(isa, keys, center, interrupt);
  }
  parallel_for(ceil_div(panels, kPanelsPerTask), threads, interrupt, [&](int64_t task) {
    std::vector<float> scratch(width);
    std::vector<int8_t> rows(kPanel * width);
    std::vector<RowSums> sums(kPanel);
    const int64_t last = std::min(panels, (task + 1) * kPanelsPerTask);
    for (int64_t panel = task * kPanelsPerTask; panel < last; ++panel) {
      const int64_t begin = panel * kPanel;
      const int64_t count = std::min(kPanel, keys.rows - begin);
      // Checked here, the rows are in the cache when they are encoded.
      const int64_t row = isa.find_nonfinite(keys.slice(begin, begin + count));
      if (row >= 0) nonfinite.found(begin + row);
      isa.encode_rows(keys.slice(begin, begin + count), rotation.view(), center, {}, scratch.data(),
                      rows.data(), sums.data());
      interleave(rows.data(), count, width, codes + begin * width);
      for (int64_t r = 0; r < kPanel; ++r) {
        const RowBounds bounds = bound_row(r < count ? sums[r] : RowSums{}, rotation.error());
        scale[begin + r] = r < count ? sums[r].scale : 0;
        error[begin + r] = round_up_to_float(bounds.error);
        norm[begin + r] = round_up_to_float(bounds.norm);
      }
    }
  });
  return nonfinite.any() ? nonfinite.row() : -1;
}

}  // namespace fastclip::cpu
