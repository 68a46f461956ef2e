// Tensors of torch on the CPU, their memory and new ones, without torch: through DLPack's exchange
// API, which torch.Tensor carries in newer versions, in a part of the time that torch itself takes.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "fastclip/matrix.h"

namespace fastclip::bindings {

namespace py = pybind11;

// Of dlpack.h, version 1.
struct DLTensor {
  char* data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t type_code, bits;
  uint16_t lanes;
  const int64_t* shape;
  const int64_t* strides;  // in elements
  uint64_t byte_offset;
};

struct DLManagedTensorVersioned {
  uint32_t major_version, minor_version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor tensor;
};

// Whether the producer of a DLPack capsule says that its memory itself may be written to. Capsules
// older than version 1 do not say.
inline bool is_writable(py::handle capsule) {
  constexpr uint64_t kReadOnly = 1, kCopied = 2;
  const char* name = "dltensor_versioned";
  if (PyCapsule_IsValid(capsule.ptr(), name) == 0) return false;
  const auto* x =
      static_cast<const DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), name));
  return x->major_version == 1 && (x->flags & (kReadOnly | kCopied)) == 0;
}

struct DLPackExchangeAPI {
  uint32_t major_version, minor_version;
  const DLPackExchangeAPI* older;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object;
  // The object owns the tensor. Not 0 where it has set an exception.
  int (*managed_tensor_to_py_object)(DLManagedTensorVersioned* tensor, void** out);
  // The memory is that of the object. Not 0 where it has set an exception.
  int (*dltensor_from_py_object)(void* object, DLTensor* out);
};

// An attribute of a class written in C, read by the function behind it: a property, or a method
// without arguments. Null where reading it raises an exception, which is cleared.
class Attribute {
 public:
  Attribute(py::handle type, const char* name) {
    const py::object found = py::getattr(type, name);
    if (Py_IS_TYPE(found.ptr(), &PyGetSetDescr_Type)) {
      const auto* property = reinterpret_cast<PyGetSetDescrObject*>(found.ptr())->d_getset;
      get_ = property->get;
      closure_ = property->closure;
    } else if (Py_IS_TYPE(found.ptr(), &PyMethodDescr_Type)) {
      const auto* method = reinterpret_cast<PyMethodDescrObject*>(found.ptr())->d_method;
      if (method->ml_flags == METH_NOARGS) method_ = method->ml_meth;
    }
  }

  bool found() const { return get_ != nullptr || method_ != nullptr; }

  py::object operator()(py::handle object) const {
    PyObject* value =
        method_ != nullptr ? method_(object.ptr(), nullptr) : get_(object.ptr(), closure_);
    if (value == nullptr) PyErr_Clear();
    return py::reinterpret_steal<py::object>(value);
  }

 private:
  PyCFunction method_ = nullptr;
  getter get_ = nullptr;
  void* closure_ = nullptr;
};

// Looks at objects that are torch.Tensor, and at no others.
class Tensors {
 public:
  Tensors(py::type tensor, py::type storage)
      : type_(tensor.release().ptr()),
        requires_grad_(type_, "requires_grad"),
        is_neg_(type_, "is_neg"),
        storage_offset_(type_, "storage_offset"),
        untyped_storage_(type_, "untyped_storage"),
        nbytes_(storage, "nbytes") {
    const auto api = py::getattr(type_, "__dlpack_c_exchange_api__", py::none());
    if (!api.is_none()) {
      api_ = static_cast<const DLPackExchangeAPI*>(
          PyCapsule_GetPointer(api.ptr(), "dlpack_exchange_api"));
      if (api_ == nullptr) throw py::error_already_set();
    }
    while (api_ != nullptr && api_->major_version != 1) api_ = api_->older;
    for (const Attribute* a :
         {&requires_grad_, &is_neg_, &storage_offset_, &untyped_storage_, &nbytes_}) {
      if (!a->found()) api_ = nullptr;
    }
    if (api_ != nullptr && api_->managed_tensor_to_py_object == nullptr) api_ = nullptr;
  }

  // Rows of features, each with its elements side by side, that nobody differentiates with respect
  // to. Nothing where the object is anything else: a view that torch negates when it reads it, or
  // one whose storage was freed or made smaller, which DLPack does not tell.
  std::optional<Matrix> rows(py::handle object) const {
    constexpr int32_t kCpu = 1;
    constexpr uint8_t kFloat = 2, kBFloat = 4;
    if (api_ == nullptr || py::type::handle_of(object).ptr() != type_.ptr()) return {};
    if (requires_grad_(object).ptr() != Py_False) return {};
    DLTensor x;
    if (api_->dltensor_from_py_object(object.ptr(), &x) != 0) {
      PyErr_Clear();
      return {};
    }
    if (x.device_type != kCpu || x.ndim != 2 || x.lanes != 1) return {};
    Matrix m{x.data + x.byte_offset, DType::kFloat32, x.shape[0], x.shape[1], x.strides[0]};
    if (x.type_code == kBFloat && x.bits == 16) {
      m.dtype = DType::kBFloat16;
    } else if (x.type_code == kFloat && x.bits == 16) {
      m.dtype = DType::kFloat16;
    } else if (x.type_code != kFloat || x.bits != 32) {
      return {};
    }
    const bool some = m.rows * m.cols > 0 && m.data != nullptr;  // null: all zeros, or freed
    if (!some || (m.cols > 1 && x.strides[1] != 1) || is_neg_(object).ptr() != Py_False) return {};
    return in_storage(object, m) ? std::optional(m) : std::nullopt;
  }

  // A new tensor of float32 or int64, and its memory, in half of the time that torch.empty takes.
  // Only where rows() has found something.
  template <class T>
  std::pair<py::object, T*> empty(int64_t rows, int64_t cols) const {
    struct Owned {
      DLManagedTensorVersioned managed;
      int64_t shape[2], strides[2];
    };
    constexpr size_t kHead = (sizeof(Owned) + 63) / 64 * 64;
    const size_t bytes = kHead + (static_cast<size_t>(rows * cols) * sizeof(T) + 63) / 64 * 64;
    auto* memory = static_cast<char*>(std::aligned_alloc(64, bytes));
    if (memory == nullptr) throw std::bad_alloc();
    auto* owned = new (memory) Owned{};
    owned->shape[0] = rows;
    owned->shape[1] = owned->strides[0] = cols;
    owned->strides[1] = 1;
    owned->managed.major_version = 1;
    owned->managed.deleter = [](DLManagedTensorVersioned* self) { std::free(self); };
    DLTensor& x = owned->managed.tensor;
    x.data = memory + kHead;
    x.device_type = 1;
    x.ndim = 2;
    x.type_code = std::is_floating_point_v<T> ? 2 : 0;
    x.bits = 8 * sizeof(T);
    x.lanes = 1;
    x.shape = owned->shape;
    x.strides = owned->strides;
    void* object = nullptr;
    if (api_->managed_tensor_to_py_object(&owned->managed, &object) != 0) {
      throw py::error_already_set();
    }
    return {py::reinterpret_steal<py::object>(static_cast<PyObject*>(object)),
            reinterpret_cast<T*>(x.data)};
  }

 private:
  // Whether the storage of the tensor is large enough for all of its rows.
  bool in_storage(py::handle tensor, const Matrix& m) const {
    const py::object storage = untyped_storage_(tensor);
    const int64_t before = as_int(storage_offset_(tensor));
    const int64_t there = storage ? as_int(nbytes_(storage)) : -1;
    const int64_t elements = before + (m.rows - 1) * m.row_stride + m.cols;
    const int64_t size = m.dtype == DType::kFloat32 ? 4 : 2;
    return before >= 0 && elements * size <= there;
  }

  static int64_t as_int(const py::object& number) {
    return number && PyLong_Check(number.ptr()) ? PyLong_AsLongLong(number.ptr()) : -1;
  }

  py::handle type_;  // kept for good
  const DLPackExchangeAPI* api_ = nullptr;
  Attribute requires_grad_, is_neg_, storage_offset_, untyped_storage_, nbytes_;
};

}  // namespace fastclip::bindings
