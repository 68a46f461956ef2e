// The exact score: one definition for every backend, instruction set, thread count and tiling.
//
//   lane[l] = sum over j of (double)q[16 j + l] * (double)k[16 j + l],  in increasing j, from +0
//   for half = 8, 4, 2, 1:  lane[l] += lane[l + half]  for l < half
//   score = (float)lane[0]
//
// The product of two float32 numbers is exact in float64 (24 + 24 <= 53 bits, and exponents down to
// 2^-298), so a fused multiply-add and a multiply followed by an add round alike. A lane is never
// -0, so rows may be padded with zeros to a multiple of 16. Denormals are kept, rounding is to
// nearest even: FloatEnvironment sees to both.
#pragma once

#include <cfenv>
#include <cstdint>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "fastclip/host_device.h"

namespace fastclip {

inline constexpr int64_t kLanes = 16;

FASTCLIP_HD constexpr int64_t lane_steps(int64_t cols) { return (cols + kLanes - 1) / kLanes; }

// Sets round-to-nearest and keeps denormals on this thread for its lifetime: callers may have
// switched flush-to-zero on (torch.set_flush_denormal does).
class FloatEnvironment {
 public:
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

#if defined(__SSE2__)
  // Without the x87 unit, of which nothing is asked here: its state takes longer than a small call.
  FloatEnvironment() { _mm_setcsr(0x1f80); }
  ~FloatEnvironment() { _mm_setcsr(saved_); }

 private:
  const unsigned saved_ = _mm_getcsr();
#else
  FloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatEnvironment() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_;
#endif
};

}  // namespace fastclip
