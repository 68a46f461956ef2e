#include "bindings/tensors.h"

#include <stdexcept>
#include <string_view>

namespace fastclip::bindings {
namespace {

struct NumberType {
  std::string_view name;
  uint8_t type_code, bits;
};

constexpr NumberType kNumberTypes[] = {
    {"torch.float32", kFloat, 32},   {"torch.float64", kFloat, 64}, {"torch.float16", kFloat, 16},
    {"torch.bfloat16", kBFloat, 16}, {"torch.int64", kInt, 64},     {"torch.int32", kInt, 32},
    {"torch.uint8", kUInt, 8},
};

int32_t device_of(std::string_view type) {
  if (type == "cpu") return kCpu;
  return type == "cuda" ? kCuda : kNoDevice;
}

// By the attributes of torch.Tensor: for versions of torch without an exchange API, and for tensors
// without memory.
std::optional<DLTensor> describe_by_attributes(py::handle object, Tensors::Sizes& sizes) {
  if (!py::hasattr(object, "data_ptr")) return {};
  const auto shape = object.attr("shape").cast<py::tuple>();
  const auto strides = object.attr("stride")().cast<py::tuple>();
  if (shape.size() > Tensors::kMostDimensions) return {};
  DLTensor x{};
  x.ndim = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    sizes.shape[i] = shape[i].cast<int64_t>();
    sizes.strides[i] = strides[i].cast<int64_t>();
  }
  x.shape = sizes.shape;
  x.strides = sizes.strides;
  x.data = reinterpret_cast<char*>(object.attr("data_ptr")().cast<uintptr_t>());
  x.device_type = device_of(object.attr("device").attr("type").cast<std::string>());
  x.lanes = 1;
  const std::string dtype = py::str(object.attr("dtype"));
  for (const NumberType& type : kNumberTypes) {
    if (type.name != dtype) continue;
    x.type_code = type.type_code;
    x.bits = type.bits;
  }
  return x;
}

Tensors* of_process = nullptr;  // kept for good

}  // namespace

std::optional<DLTensor> Tensors::describe(py::handle object, Sizes& sizes) const {
  DLTensor x;
  if (api_ != nullptr &&
      PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type_.ptr())) != 0) {
    if (api_->dltensor_from_py_object(object.ptr(), &x) == 0) {
      x.data += x.byte_offset;
      if (x.device_type == kCpuPinned) x.device_type = kCpu;
      return x;
    }
    PyErr_Clear();
  }
  return describe_by_attributes(object, sizes);
}

const Tensors& tensors() {
  if (of_process == nullptr) throw std::runtime_error("fastclip._C: set_tensor_types comes first");
  return *of_process;
}

void set_tensor_types(py::type tensor, py::type storage) {
  if (of_process == nullptr) of_process = new Tensors(std::move(tensor), std::move(storage));
}

}  // namespace fastclip::bindings
