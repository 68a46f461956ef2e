// The module fastclip._C.cuda, in builds with CUDA.
#include "bindings/cuda.h"

namespace fastclip::bindings {

void bind_cuda(py::module_& m) {
  m.attr("emulated") = cuda::emulated();
  m.attr("toolkit") = cuda::toolkit_version();
  m.attr("architectures") = FASTCLIP_CUDA_ARCHITECTURES;
  m.def("driver_version", &cuda::driver_version);
  m.def("capability", &cuda::capability_of);

  m.def(
      "find_nonfinite",
      [](const Matrix& rows, uintptr_t row, uintptr_t stream) {
        cuda::find_nonfinite(rows, reinterpret_cast<int64_t*>(row), stream_at(stream));
      },
      NoGil());

  m.def(
      "similarity",
      [](const Matrix& queries, const Matrix& keys, const Matrix& out, uintptr_t stream) {
        cuda::similarity(queries, keys, mutable_view(out), stream_at(stream));
      },
      NoGil());

  m.def(
      "pair_scores",
      [](const Matrix& queries, const Matrix& keys, uintptr_t indices, int64_t per_query,
         uintptr_t out, uintptr_t stream) {
        cuda::pair_scores(queries, keys, reinterpret_cast<const int64_t*>(indices), per_query,
                          reinterpret_cast<float*>(out), stream_at(stream));
      },
      NoGil());

  bind_screen(m);
  bind_values(m);
  bind_pixels(m);
}

}  // namespace fastclip::bindings
