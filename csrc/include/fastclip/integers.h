// Whole numbers: quotients, multiples and powers of two.
#pragma once

#include "fastclip/host_device.h"

namespace fastclip {

template <class Int>
FASTCLIP_HD constexpr Int ceil_div(Int a, Int b) {
  return (a + b - 1) / b;
}

template <class Int>
FASTCLIP_HD constexpr Int round_up(Int x, Int multiple_of) {
  return ceil_div(x, multiple_of) * multiple_of;
}

template <class Int>
FASTCLIP_HD constexpr Int next_power_of_two(Int n) {
  Int power = 1;
  while (power < n) power *= 2;
  return power;
}

}  // namespace fastclip
