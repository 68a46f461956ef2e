// The screen with the mainloop of the current device.
#pragma once

#include "cuda/arch/mainloop_sm80.cuh"
#ifdef FASTCLIP_SM90A  // the build has code for it
#include "cuda/arch/mainloop_sm90.cuh"
#endif

namespace fastclip::cuda {

template <class Epilogue>
void screen(const MainloopParams& params, const Epilogue& epilogue, Stream stream) {
#ifdef FASTCLIP_SM90A
  if (capability() == 90 && has_code(sm90::screen_kernel<Epilogue, 4>, sm90::kThreads)) {
    return sm90::screen(params, epilogue, stream);
  }
#endif
  sm80::screen(params, epilogue, stream);
}

}  // namespace fastclip::cuda
