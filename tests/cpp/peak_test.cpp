// What the loops for the peak say that they did, and that they read no further than they may.
#include <vector>

#include "cpu/isa/isa.h"
#include "tests.h"

namespace fastclip::tests {

void check_peak(Run& run) {
  const cpu::PeakKernels& peak = cpu::kernels().peak;
  for (const auto kernel : {peak.float32, peak.float64, peak.int8}) {
    run.expect(kernel(3) == 3 * kernel(1), "operations grow with steps");
  }
  run.expect(peak.float32(1) == 2 * peak.float64(1) && peak.float64(1) > 0, "twice the lanes");
  run.expect((peak.int8(1) > 0) == (cpu::kernels().query_codes.largest > 0), "int8");
  for (const int64_t count : {0, 1, 47, 48, 1000}) {
    const std::vector<float> numbers(count, 1.0f);
    const double bytes = peak.read(numbers.data(), count);
    run.expect(bytes <= 4.0 * static_cast<double>(count), "bytes read");
  }
}

}  // namespace fastclip::tests
