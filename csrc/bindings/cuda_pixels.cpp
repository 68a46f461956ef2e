// Questions about the pixels of images, of the module fastclip._C.cuda.
#include <array>
#include <vector>

#include "bindings/cuda.h"

namespace fastclip::bindings {
namespace {

using Shape = std::array<int64_t, 5>;

cuda::LabelShape label_shape(const Shape& s) { return {s[0], s[1], s[2], s[3], s[4]}; }
cuda::MaskShape mask_shape(const Shape& s) { return {s[0], s[1], s[2], s[3], s[4]}; }

}  // namespace

void bind_pixels(py::module_& m) {
  m.def("pixel_scores_workspace", &cuda::pixel_scores_workspace);
  m.def(
      "pixel_scores",
      [](const Matrix& pixels, int64_t images, const Matrix& tags, uintptr_t values,
         uintptr_t locations, int64_t at_once, uintptr_t workspace, uintptr_t stream) {
        cuda::pixel_scores(pixels, images, tags, reinterpret_cast<float*>(values),
                           reinterpret_cast<int64_t*>(locations), at_once,
                           reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());

  m.def("pixel_labels_workspace",
        [](const Matrix& pixels, const Matrix& tags, const Shape& shape, int64_t at_once) {
          return cuda::pixel_labels_workspace(pixels, tags, label_shape(shape), at_once);
        });
  m.def(
      "pixel_labels",
      [](const Matrix& pixels, int64_t images, const Matrix& tags, const Shape& shape,
         double background, uintptr_t values, uintptr_t indices, uintptr_t survivors,
         uintptr_t overflow, int64_t at_once, uintptr_t workspace, uintptr_t stream) {
        cuda::pixel_labels(pixels, images, tags, label_shape(shape), static_cast<float>(background),
                           reinterpret_cast<float*>(values), reinterpret_cast<int64_t*>(indices),
                           reinterpret_cast<int64_t*>(survivors),
                           reinterpret_cast<int32_t*>(overflow), at_once,
                           reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());

  m.def("refine_masks_workspace", [](const Shape& shape, int64_t dilations, int64_t at_once) {
    return cuda::refine_masks_workspace(mask_shape(shape), dilations, at_once);
  });
  m.def(
      "refine_masks",
      [](uintptr_t images, uintptr_t masks, uintptr_t low, uintptr_t high, const Shape& shape,
         int64_t iterations, const std::vector<int64_t>& dilations, uintptr_t out, int64_t at_once,
         uintptr_t workspace, uintptr_t stream) {
        cuda::refine_masks(
            reinterpret_cast<const float*>(images), reinterpret_cast<const float*>(masks),
            reinterpret_cast<const float*>(low), reinterpret_cast<const float*>(high),
            mask_shape(shape), iterations, dilations, reinterpret_cast<float*>(out), at_once,
            reinterpret_cast<void*>(workspace), stream_at(stream));
      },
      NoGil());
}

}  // namespace fastclip::bindings
