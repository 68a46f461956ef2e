// Floats as whole numbers of the same order, for selection and sorting.
#pragma once

#include <bit>
#include <cstdint>

#include "fastclip/host_device.h"

namespace fastclip {

// The larger the float, the larger the number; never 0. For numbers, not NaN; -0 is +0.
FASTCLIP_HD constexpr uint32_t ordered(float x) {
  const auto bits = x == 0 ? 0u : std::bit_cast<uint32_t>(x);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

FASTCLIP_HD constexpr float from_ordered(uint32_t number) {
  return std::bit_cast<float>((number >> 31) != 0 ? number & 0x7fffffffu : ~number);
}

}  // namespace fastclip
