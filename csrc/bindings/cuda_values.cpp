// Sums over scores in float32, of the module fastclip._C.cuda.
#include "bindings/cuda.h"

namespace fastclip::bindings {

void bind_values(py::module_& m) {
  m.def("logsumexp_workspace", &cuda::logsumexp_workspace);
  m.def(
      "logsumexp",
      [](const Matrix& queries, const Matrix& keys, double scale, uintptr_t out, int64_t at_once,
         uintptr_t workspace, uintptr_t stream) {
        cuda::logsumexp(queries, keys, scale, reinterpret_cast<float*>(out), at_once,
                        reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());

  m.def("gaussian_potential_workspace", &cuda::gaussian_potential_workspace);
  m.def(
      "gaussian_potential",
      [](const Matrix& x, const Matrix& y, bool symmetric, double t, uintptr_t centre,
         uintptr_t out, int64_t at_once, uintptr_t workspace, uintptr_t stream) {
        cuda::gaussian_potential(x, y, symmetric, t, reinterpret_cast<const double*>(centre),
                                 reinterpret_cast<double*>(out), at_once,
                                 reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());

  m.def("cache_logits_workspace", &cuda::cache_logits_workspace);
  m.def(
      "cache_logits",
      [](const Matrix& queries, const Matrix& keys, const Matrix& values, double beta,
         uintptr_t out, int64_t at_once, uintptr_t workspace, uintptr_t stream) {
        cuda::cache_logits(queries, keys, values, beta, reinterpret_cast<float*>(out), at_once,
                           reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());

  m.def(
      "group_means",
      [](const Matrix& keys, uintptr_t order, uintptr_t starts, int64_t groups, uintptr_t means,
         uintptr_t stream) {
        cuda::group_means(keys, reinterpret_cast<const int64_t*>(order),
                          reinterpret_cast<const int64_t*>(starts), groups,
                          reinterpret_cast<float*>(means), stream_at(stream));
      },
      NoGil());
}

}  // namespace fastclip::bindings
