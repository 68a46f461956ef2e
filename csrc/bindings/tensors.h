// Tensors of torch, their memory and new ones, without torch: through DLPack's exchange API, which
// torch.Tensor carries in newer versions, in a part of the time that torch itself takes.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "fastclip/view.h"

namespace fastclip::bindings {

namespace py = pybind11;

// Of dlpack.h, version 1.
enum : int32_t { kNoDevice = 0, kCpu = 1, kCuda = 2, kCpuPinned = 3 };  // the first is ours
enum : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kBool = 6 };

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

// Looks at tensors.
class Tensors {
 public:
  static constexpr int kMostDimensions = 8;

  // Where a tensor without an exchange API is described.
  struct Sizes {
    int64_t shape[kMostDimensions], strides[kMostDimensions];
  };

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
    plain_ = api_ != nullptr && api_->managed_tensor_to_py_object != nullptr;
    for (const Attribute* a :
         {&requires_grad_, &is_neg_, &storage_offset_, &untyped_storage_, &nbytes_}) {
      if (!a->found()) plain_ = false;
    }
  }

  // The tensor, for as long as the object and `sizes` are there. Nothing where it is none. Tensors
  // on `meta` have sizes but no device.
  std::optional<DLTensor> describe(py::handle object, Sizes& sizes) const;

  // Rows of features on the CPU, each with its elements side by side, that nobody differentiates
  // with respect to. Nothing where the object is anything else: a view that torch negates when it
  // reads it, or one whose storage was freed or made smaller, which DLPack does not tell.
  std::optional<Matrix> rows(py::handle object) const {
    const auto x = plain(object);
    if (!x || x->ndim != 2) return {};
    const auto dtype = dtype_of(*x);
    if (!dtype) return {};
    const Matrix m{x->data + x->byte_offset, *dtype, x->shape[0], x->shape[1], x->strides[0]};
    const bool some = m.rows * m.cols > 0 && m.data != nullptr;  // null: all zeros, or freed
    if (!some || (m.cols > 1 && x->strides[1] != 1)) return {};
    const int64_t elements = (m.rows - 1) * m.row_stride + m.cols;
    return in_storage(object, elements, x->bits) ? std::optional(m) : std::nullopt;
  }

  // The same of a contiguous array of `count` numbers of another type.
  const char* array(py::handle object, uint8_t type_code, uint8_t bits, int64_t count) const {
    const auto x = plain(object);
    if (!x || x->type_code != type_code || x->bits != bits || x->data == nullptr) return nullptr;
    if (count_if_contiguous(*x) != count || !in_storage(object, count, bits)) return nullptr;
    return x->data + x->byte_offset;
  }

  // The codes and bounds of packed keys: codes, bounds and center, all of them as above.
  std::optional<ScreenKeys> screen(py::handle codes, py::handle bounds, py::handle center,
                                   int64_t keys, int64_t cols) const {
    const int64_t padded = padded_keys(keys);
    const auto* rows = array(bounds, kFloat, 32, 3 * padded);
    const auto* all_codes = array(codes, kUInt, 8, padded * code_width(cols));
    const auto* mean = array(center, kFloat, 32, cols);
    if (rows == nullptr || all_codes == nullptr || mean == nullptr) return {};
    return screen_keys(all_codes, rows, mean, keys, cols);
  }

  static ScreenKeys screen_keys(const char* codes, const char* bounds, const char* center,
                                int64_t keys, int64_t cols) {
    const int64_t padded = padded_keys(keys);
    const auto* rows = reinterpret_cast<const float*>(bounds);
    return {reinterpret_cast<const uint8_t*>(codes), rows, rows + padded, rows + 2 * padded,
            reinterpret_cast<const float*>(center),  keys, cols,          code_width(cols)};
  }

  // The number type of features; nothing for others.
  static std::optional<DType> dtype_of(const DLTensor& x) {
    if (x.lanes != 1) return {};
    if (x.type_code == kBFloat && x.bits == 16) return DType::kBFloat16;
    if (x.type_code == kFloat && x.bits == 16) return DType::kFloat16;
    if (x.type_code == kFloat && x.bits == 32) return DType::kFloat32;
    return {};
  }

  // How many elements there are; -1 where they are not one after the other.
  static int64_t count_if_contiguous(const DLTensor& x) {
    int64_t count = 1, expected = 1;
    bool contiguous = true;
    for (int32_t i = x.ndim - 1; i >= 0; --i) {
      contiguous &= x.shape[i] == 1 || x.strides[i] == expected;
      expected *= x.shape[i];
      count *= x.shape[i];
    }
    return contiguous || count == 0 ? count : -1;
  }

  // A new tensor of float32 or int64, and its memory, in half of the time that torch.empty takes.
  // Only where rows() has found something.
  template <class T, int kDimensions>
  std::pair<py::object, View<T, kDimensions>> empty(const View<T, kDimensions>& like) const {
    struct Owned {
      DLManagedTensorVersioned managed;
      int64_t shape[2], strides[2];
    };
    static_assert(kDimensions == 1 || kDimensions == 2);
    constexpr size_t kHead = (sizeof(Owned) + 63) / 64 * 64;
    const size_t bytes = kHead + (static_cast<size_t>(like.count()) * sizeof(T) + 63) / 64 * 64;
    constexpr std::align_val_t kAlignment{64};
    auto* memory = static_cast<char*>(::operator new(bytes, kAlignment));
    auto* owned = new (memory) Owned{};
    std::copy_n(like.sizes, kDimensions, owned->shape);
    owned->strides[0] = kDimensions == 2 ? like.sizes[1] : 1;
    owned->strides[1] = 1;
    owned->managed.major_version = 1;
    owned->managed.deleter = [](DLManagedTensorVersioned* self) {
      ::operator delete(self, kAlignment);
    };
    DLTensor& x = owned->managed.tensor;
    x.data = memory + kHead;
    x.device_type = kCpu;
    x.ndim = kDimensions;
    x.type_code = std::is_floating_point_v<T> ? kFloat : kInt;
    x.bits = 8 * sizeof(T);
    x.lanes = 1;
    x.shape = owned->shape;
    x.strides = owned->strides;
    void* object = nullptr;
    if (api_->managed_tensor_to_py_object(&owned->managed, &object) != 0) {
      throw py::error_already_set();
    }
    auto view = like;
    view.data = reinterpret_cast<T*>(x.data);
    return {py::reinterpret_steal<py::object>(static_cast<PyObject*>(object)), view};
  }

 private:
  // A tensor on the CPU and of no subclass that nobody differentiates with respect to.
  std::optional<DLTensor> plain(py::handle object) const {
    if (!plain_ || py::type::handle_of(object).ptr() != type_.ptr()) return {};
    if (requires_grad_(object).ptr() != Py_False) return {};
    DLTensor x;
    if (api_->dltensor_from_py_object(object.ptr(), &x) != 0) {
      PyErr_Clear();
      return {};
    }
    const bool here = x.device_type == kCpu && x.lanes == 1;
    return here && is_neg_(object).ptr() == Py_False ? std::optional(x) : std::nullopt;
  }

  // Whether the storage of the tensor is large enough for so many elements.
  bool in_storage(py::handle tensor, int64_t elements, uint8_t bits) const {
    const py::object storage = untyped_storage_(tensor);
    const int64_t before = as_int(storage_offset_(tensor));
    const int64_t there = storage ? as_int(nbytes_(storage)) : -1;
    return before >= 0 && (before + elements) * (bits / 8) <= there;
  }

  static int64_t as_int(const py::object& number) {
    return number && PyLong_Check(number.ptr()) ? PyLong_AsLongLong(number.ptr()) : -1;
  }

  py::handle type_;  // kept for good
  const DLPackExchangeAPI* api_ = nullptr;
  bool plain_ = false;  // whether there is all that plain() needs
  Attribute requires_grad_, is_neg_, storage_offset_, untyped_storage_, nbytes_;
};

// Those of this process: torch's, once set_tensor_types() was told of them.
const Tensors& tensors();
void set_tensor_types(py::type tensor, py::type storage);

}  // namespace fastclip::bindings
