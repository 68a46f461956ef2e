// Arguments on their way from Python: tensors become the views that the operations take, once they
// are what the table says. What is wrong here is a mistake in fastclip, not of its users.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/tensors.h"
#include "fastclip/matrix.h"
#include "fastclip/screen.h"
#include "fastclip/view.h"

namespace fastclip::bindings {

namespace py = pybind11;

// Names of arguments, and how many elements each has in each dimension:
// "keys[V,d] groups[V] starts[G+1] rows[B*h*w,d] codes[...] totals[N]? h w" where ... is any number
// of dimensions, ? is what may be None, and h and w are numbers. A size that is named twice must be
// the same.
class Signature {
 public:
  static constexpr size_t kMostSizes = 12;  // that have names

  // A product of named sizes, and some more.
  struct Size {
    std::vector<size_t> factors;
    int64_t more = 0;
  };

  struct Field {
    std::string name, text;
    std::vector<Size> sizes;
    bool is_flat = false, is_optional = false;
    size_t as_size = kMostSizes;  // which size it is, for a number that is one
  };

  Signature(std::string operation, const std::string& text);

  const std::string& operation() const { return operation_; }
  const std::vector<Field>& fields() const { return fields_; }

 private:
  Field parse(const std::string& word);
  Size parse_size(const std::string& text);
  size_t number_of(const std::string& size);

  std::string operation_;
  std::vector<Field> fields_;
  std::vector<std::string> sizes_;
};

template <class T>
struct IsView : std::false_type {};
template <class T, int kDimensions>
struct IsView<View<T, kDimensions>> : std::true_type {};

template <class T>
concept Argument = std::is_arithmetic_v<T> || IsView<T>::value || std::is_same_v<T, Matrix> ||
                   std::is_same_v<T, MutableMatrix> || std::is_same_v<T, const ScreenKeys*> ||
                   std::is_same_v<T, std::vector<int64_t>>;

// The arguments of one call.
class Arguments {
 public:
  enum class Where { kCpu, kCuda, kAnywhere };

  Arguments(const Signature& signature, const py::args& values, Where where)
      : signature_(signature), values_(values), where_(where) {
    std::fill_n(sizes_, Signature::kMostSizes, -1);
  }

  // Becomes the next argument of whatever type.
  struct Next {
    Arguments& arguments;
    template <Argument T>
    operator T() const {  // NOLINT(google-explicit-constructor)
      return arguments.take<T>();
    }
  };
  Next next() { return {*this}; }

  // The struct of all arguments that the signature names.
  template <class Call>
  Call call() {
    return all<Call>(std::make_index_sequence<count_fields<Call>()>());
  }

  template <class Call>
  static constexpr size_t count_fields() {
    return largest_count<Call>(std::make_index_sequence<Signature::kMostSizes>());
  }

  // An argument that comes after those of the signature.
  template <class T>
  T extra() {
    return value(extra_++).cast<T>();
  }

  // Memory to work in, also after those.
  Array<uint8_t> memory();

  [[noreturn]] void fail(const std::string& problem) const {
    throw std::runtime_error("fastclip._C." + signature_.operation() + ": " + problem);
  }

 private:
  struct Any {
    template <Argument T>
    operator T() const;  // NOLINT(google-explicit-constructor)
  };
  template <class Call, size_t... i>
  static constexpr bool takes(std::index_sequence<i...>) {
    return requires { Call{(static_cast<void>(i), Any{})...}; };
  }
  // The largest count of initialisers.
  template <class Call, size_t... i>
  static constexpr size_t largest_count(std::index_sequence<i...>) {
    size_t count = 0;
    ((count = takes<Call>(std::make_index_sequence<i + 1>()) ? i + 1 : count), ...);
    return count;
  }

  template <class Call, size_t... i>
  Call all(std::index_sequence<i...>) {
    if (sizeof...(i) != signature_.fields().size()) fail("the table names other arguments");
    Call call{(static_cast<void>(i), next())...};
    check_products();
    if constexpr (requires { call.problem(); }) {
      if (const char* problem = call.problem()) fail(problem);
    }
    extra_ = sizeof...(i);
    return call;
  }

  template <class T>
  T take() {
    const Signature::Field& field = signature_.fields()[at_];
    const py::handle object = value(at_++);
    if constexpr (std::is_arithmetic_v<T>) {
      return number<T>(field, object);
    } else if constexpr (IsView<T>::value) {
      return view<T>(field, object);
    } else if constexpr (std::is_same_v<T, const ScreenKeys*>) {
      return screen(field, object);
    } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
      T numbers;
      for (const py::handle x : object.cast<py::sequence>()) numbers.push_back(x.cast<int64_t>());
      return numbers;
    } else {
      return rows<T>(field, object);
    }
  }

  py::handle value(size_t i) const {
    if (i >= values_.size()) fail("too few arguments");
    return PyTuple_GET_ITEM(values_.ptr(), static_cast<Py_ssize_t>(i));
  }

  template <class T>
  T number(const Signature::Field& field, py::handle object) {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(object.cast<double>());
    } else {
      const auto x = object.cast<T>();
      if (field.as_size < Signature::kMostSizes) bind(field, field.as_size, x);
      return x;
    }
  }

  template <class V>
  V view(const Signature::Field& field, py::handle object) {
    using Number = std::remove_const_t<typename V::Element>;
    constexpr uint8_t kCode =
        std::is_floating_point_v<Number> ? kFloat : (std::is_signed_v<Number> ? kInt : kUInt);
    V view;
    if (object.is_none() && field.is_optional) return view;
    Tensors::Sizes sizes;
    const DLTensor x = tensor(field, object, sizes);
    if (x.type_code != kCode || x.bits != 8 * sizeof(Number)) {
      fail(field, x, "other numbers are needed");
    }
    const int64_t count = Tensors::count_if_contiguous(x);
    if (count < 0) fail(field, x, "it must be contiguous");
    view.data = reinterpret_cast<typename V::Element*>(x.data);
    if (field.is_flat) {
      view.sizes[0] = count;
      return view;
    }
    check_sizes(field, x, V::kSizes);
    std::copy_n(x.shape, V::kSizes, view.sizes);
    return view;
  }

  template <class M>
  M rows(const Signature::Field& field, py::handle object) {
    Tensors::Sizes sizes;
    const DLTensor x = tensor(field, object, sizes);
    const auto dtype = Tensors::dtype_of(x);
    if (!dtype) fail(field, x, "other numbers are needed");
    check_sizes(field, x, 2);
    // Empty arrays have any strides and no address: nothing may be added to that.
    const bool empty = x.shape[0] * x.shape[1] == 0;
    if (!empty && x.shape[1] > 1 && x.strides[1] != 1) {
      fail(field, x, "elements of a row must be adjacent");
    }
    return {x.data, *dtype, x.shape[0], x.shape[1], empty ? 0 : x.strides[0]};
  }

  // Null where the sequence is empty; `field` has the sizes of the keys.
  const ScreenKeys* screen(const Signature::Field& field, py::handle object);

  DLTensor tensor(const Signature::Field& field, py::handle object, Tensors::Sizes& sizes);
  void check_sizes(const Signature::Field& field, const DLTensor& x, int dimensions);
  void bind(const Signature::Field& field, size_t size, int64_t value);
  void check_products() const;
  [[noreturn]] void fail(const Signature::Field& field, const DLTensor& x,
                         const std::string& problem) const;

  const Signature& signature_;
  const py::args& values_;
  const Where where_;
  size_t at_ = 0, extra_ = 0;
  int32_t device_ = -1;                   // of the first tensor
  int64_t sizes_[Signature::kMostSizes];  // below 0: not known yet
  std::optional<ScreenKeys> screen_;

  struct Seen {
    const Signature::Field* field;
    const Signature::Size* size;
    int64_t value;
  };
  static constexpr size_t kMostProducts = 4;
  Seen products_[kMostProducts];  // sizes that are more than a name
  size_t num_products_ = 0;
};

}  // namespace fastclip::bindings
