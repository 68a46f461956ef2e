// Packed keys and the operations that screen by them, for the module fastclip._C.cuda.
#include <array>

#include "bindings/cuda.h"

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

  py::class_<cuda::FixedPlan>(m, "FixedPlan")
      .def(py::init<int64_t, int64_t, int64_t, int64_t, int64_t>())
      .def("workspace", &cuda::fixed_workspace);

  m.def(
      "count_ahead",
      [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
         const cuda::FixedPlan& plan, uintptr_t scores, uintptr_t ties, uintptr_t per_query,
         uintptr_t per_key, uintptr_t scored, uintptr_t memory, uintptr_t stream) {
        cuda::count_ahead(queries, keys, screen, plan, at<const float>(scores),
                          at<const int64_t>(ties), at<int64_t>(per_query), at<int64_t>(per_key),
                          at<int64_t>(scored), at<void>(memory), stream_at(stream));
      },
      NoGil());

  m.def(
      "group_beats",
      [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
         const cuda::FixedPlan& plan, uintptr_t scores, uintptr_t ties, uintptr_t groups,
         int64_t words, uintptr_t bits, uintptr_t scored, uintptr_t memory, uintptr_t stream) {
        cuda::group_beats(queries, keys, screen, plan, at<const float>(scores),
                          at<const int64_t>(ties), at<const int64_t>(groups), words,
                          at<uint64_t>(bits), at<int64_t>(scored), at<void>(memory),
                          stream_at(stream));
      },
      NoGil());

  py::class_<cuda::GroupPlan>(m, "GroupPlan")
      .def(py::init<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>())
      .def("workspace", &cuda::group_max_workspace);

  m.def(
      "group_max",
      [](const Matrix& queries, const Matrix& keys, const ScreenKeys* screen,
         const cuda::GroupPlan& plan, uintptr_t groups, uintptr_t values, uintptr_t indices,
         uintptr_t scored, uintptr_t memory, uintptr_t stream) {
        cuda::group_max(queries, keys, screen, plan, at<const int64_t>(groups), at<float>(values),
                        at<int64_t>(indices), at<int64_t>(scored), at<void>(memory),
                        stream_at(stream));
      },
      NoGil());

  m.def("maybe_above_workspace", &cuda::maybe_above_workspace);
  m.def(
      "maybe_above",
      [](const Matrix& queries, const ScreenKeys& keys, std::array<int64_t, 2> range,
         uintptr_t thresholds, bool later_only, int64_t shift, uintptr_t pairs, int64_t capacity,
         uintptr_t count, uintptr_t memory, uintptr_t stream) {
        cuda::maybe_above(queries, keys, range[0], range[1], at<const float>(thresholds),
                          later_only, shift, at<int32_t>(pairs), capacity, at<unsigned>(count),
                          at<void>(memory), stream_at(stream));
      },
      NoGil());
  m.def(
      "list_scores",
      [](const Matrix& queries, const Matrix& keys, uintptr_t pairs, int64_t count,
         uintptr_t scores, uintptr_t stream) {
        cuda::list_scores(queries, keys, at<const int32_t>(pairs), count, at<float>(scores),
                          stream_at(stream));
      },
      NoGil());
}

}  // namespace fastclip::bindings
