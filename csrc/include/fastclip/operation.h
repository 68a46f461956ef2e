// What the declarations of all operations need.
//
// An operation NAME has one struct of arguments for both, NAMECall, declared in ops/NAME.h. Its
// caller has checked what the arguments hold: finite numbers, indices in range. cpu::NAME computes
// on the CPU with up to `threads` threads, until the interrupt stops it. cuda::NAME returns at
// once: its work is in the stream, all memory is the current device's. What it works in beside the
// arguments is memory of the caller, as large as cuda::NAME_room says.
#pragma once

#include <cstdint>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "fastclip/view.h"

struct CUstream_st;  // what cudaStream_t points to

namespace fastclip::cpu {

class Interrupt;

// Where a search screens pairs: kAlways, for tests, also where exact scores would be faster.
enum class Screening : bool { kWherePays, kAlways };

}  // namespace fastclip::cpu

namespace fastclip::cuda {

using Stream = CUstream_st*;

// The most keys that one search can have.
inline constexpr int64_t kMostKeys = 0x7fffffff;

// How many rows a call takes at a time (queries, unless its header says otherwise), and how many
// bytes it works in. NAME_room(call, most) takes no more rows than `most`; it reads sizes alone, so
// that the arrays need not exist.
struct Room {
  int64_t at_once, bytes;
};

}  // namespace fastclip::cuda
