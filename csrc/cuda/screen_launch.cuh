// The screen with the mainloop of the current device.
#pragma once

#include "screen_sm80.cuh"

namespace fastclip::cuda {

template <class Sink>
void screen(const ScreenCall& call, const Sink& sink, cudaStream_t stream) {
  sm80::screen(call, sink, stream);
}

}  // namespace fastclip::cuda
