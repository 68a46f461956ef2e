// Packed keys and the operations that screen by them, for the module fastclip._C.cuda.
#include "cuda.h"

namespace fastclip::bindings {

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

void bind_screen(py::module_& m) {
  m.attr("most_keys") = cuda::kMostKeys;
  m.attr("most_best") = cuda::kMostBest;

  m.def(
      "pack",
      [](const Matrix& keys, uintptr_t center, uintptr_t codes, uintptr_t bounds,
         uintptr_t stream) {
        cuda::pack(keys, at<const float>(center), at<uint8_t>(codes), at<float>(bounds),
                   stream_at(stream));
      },
      NoGil());

  py::class_<cuda::TopKPlan>(m, "TopKPlan")
      .def(py::init<int64_t, int64_t, int64_t, int64_t>())
      .def_readonly("queries", &cuda::TopKPlan::queries)
      .def("workspace", &cuda::topk_workspace);

  m.def(
      "topk",
      [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
         const cuda::TopKPlan& plan, uintptr_t values, uintptr_t indices, uintptr_t scored,
         uintptr_t memory, uintptr_t stream) {
        cuda::topk(queries, keys, screen, plan, at<float>(values), at<int64_t>(indices),
                   at<int64_t>(scored), at<void>(memory), stream_at(stream));
      },
      NoGil());
}

}  // namespace fastclip::bindings
