#include "bindings/arguments.h"

#include <algorithm>
#include <cctype>
#include <sstream>

namespace fastclip::bindings {

Signature::Signature(std::string operation, const std::string& text)
    : operation_(std::move(operation)) {
  std::istringstream words(text);
  for (std::string word; words >> word;) fields_.push_back(parse(word));
  for (Field& field : fields_) {
    const auto size = std::find(sizes_.begin(), sizes_.end(), field.name);
    if (size != sizes_.end()) field.as_size = static_cast<size_t>(size - sizes_.begin());
  }
}

Signature::Field Signature::parse(const std::string& word) {
  Field field;
  const size_t open = word.find('['), close = word.find(']');
  field.name = word.substr(0, open);
  field.text = word;
  field.is_optional = word.back() == '?';
  if (open == std::string::npos) return field;
  std::istringstream sizes(word.substr(open + 1, close - open - 1));
  for (std::string size; std::getline(sizes, size, ',');) {
    if (size == "...") {
      field.is_flat = true;
    } else {
      field.sizes.push_back(parse_size(size));
    }
  }
  return field;
}

Signature::Size Signature::parse_size(const std::string& text) {
  Size size;
  const size_t plus = text.find('+');
  if (plus != std::string::npos) size.more = std::stoll(text.substr(plus + 1));
  std::istringstream factors(text.substr(0, plus));
  for (std::string factor; std::getline(factors, factor, '*');) {
    if (std::isdigit(static_cast<unsigned char>(factor[0])) != 0) {
      size.more += std::stoll(factor);
    } else {
      size.factors.push_back(number_of(factor));
    }
  }
  return size;
}

size_t Signature::number_of(const std::string& size) {
  const auto known = std::find(sizes_.begin(), sizes_.end(), size);
  if (known != sizes_.end()) return static_cast<size_t>(known - sizes_.begin());
  if (sizes_.size() == kMostSizes) throw std::logic_error(operation_ + ": too many sizes");
  sizes_.push_back(size);
  return sizes_.size() - 1;
}

DLTensor Arguments::tensor(const Signature::Field& field, py::handle object,
                           Tensors::Sizes& sizes) {
  const auto x = tensors().describe(object, sizes);
  if (!x) {
    fail(field.text + ": a tensor is needed, got " +
         std::string(py::str(py::type::handle_of(object).attr("__name__"))));
  }
  if (where_ == Where::kAnywhere) return *x;
  const int32_t device = where_ == Where::kCpu ? kCpu : kCuda;
  if (x->device_type != device) {
    fail(field, *x, where_ == Where::kCpu ? "it must be on the CPU" : "it must be on the device");
  }
  if (device_ < 0) device_ = x->device_id;
  if (device_ != x->device_id) fail(field, *x, "all must be on one device");
  return *x;
}

void Arguments::check_sizes(const Signature::Field& field, const DLTensor& x, int dimensions) {
  if (x.ndim != dimensions) fail(field, x, std::to_string(dimensions) + " dimensions are needed");
  if (field.sizes.size() != static_cast<size_t>(dimensions)) {
    fail(field, x, "the table names other sizes");
  }
  for (int32_t i = 0; i < x.ndim; ++i) {
    const Signature::Size& size = field.sizes[static_cast<size_t>(i)];
    if (size.factors.size() == 1 && size.more == 0) {
      bind(field, size.factors[0], x.shape[i]);
    } else if (num_products_ == kMostProducts) {
      fail(field, x, "too many products");
    } else {
      products_[num_products_++] = {&field, &size, x.shape[i]};
    }
  }
}

void Arguments::bind(const Signature::Field& field, size_t size, int64_t value) {
  int64_t& known = sizes_[size];
  if (known < 0) known = value;
  if (known != value) {
    fail(field.text + ": " + std::to_string(value) +
         " does not fit the other arguments, which have " + std::to_string(known));
  }
}

void Arguments::check_products() const {
  for (size_t p = 0; p < num_products_; ++p) {
    const auto& [field, size, value] = products_[p];
    int64_t expected = size->factors.empty() ? 0 : 1;
    for (const size_t factor : size->factors) expected *= sizes_[factor];
    if (expected + size->more != value) {
      fail(field->text + ": " + std::to_string(value) + " does not fit the other arguments");
    }
  }
}

const ScreenKeys* Arguments::screen(const Signature::Field& field, py::handle object) {
  const auto parts = object.cast<py::sequence>();
  if (parts.size() == 0) return nullptr;
  if (parts.size() != 3) fail(field.text + ": codes, bounds and center are needed");
  const int64_t keys = sizes_[field.sizes[0].factors[0]], cols = sizes_[field.sizes[1].factors[0]];
  const int64_t padded = padded_keys(keys);
  const int64_t counts[3] = {padded * code_width(cols), 3 * padded, cols};
  const char* data[3];
  for (size_t i = 0; i < 3; ++i) {
    const py::object part = parts[i];
    Tensors::Sizes sizes;
    const DLTensor x = tensor(field, part, sizes);
    const bool right =
        i == 0 ? x.type_code == kUInt && x.bits == 8 : x.type_code == kFloat && x.bits == 32;
    if (!right || Tensors::count_if_contiguous(x) != counts[i]) {
      fail(field, x, "these are not the arrays of so many keys");
    }
    data[i] = x.data;
  }
  screen_ = Tensors::screen_keys(data[0], data[1], data[2], keys, cols);
  return &*screen_;
}

Array<uint8_t> Arguments::memory() {
  static const Signature::Field field{"memory", "memory[...]", {}, true};
  return view<Array<uint8_t>>(field, value(extra_++));
}

void Arguments::fail(const Signature::Field& field, const DLTensor& x,
                     const std::string& problem) const {
  std::ostringstream text;
  constexpr const char* kNames[] = {"int", "uint", "float", "?", "bfloat", "complex", "bool"};
  text << field.text << ": " << problem << ", got " << (x.type_code < 7 ? kNames[x.type_code] : "?")
       << int{x.bits} << " [";
  for (int32_t i = 0; i < x.ndim; ++i) text << (i == 0 ? "" : ", ") << x.shape[i];
  text << "] with strides [";
  for (int32_t i = 0; i < x.ndim; ++i) text << (i == 0 ? "" : ", ") << x.strides[i];
  const auto* device =
      x.device_type == kCpu ? "cpu" : (x.device_type == kCuda ? "cuda" : "no device");
  text << "] on " << device;
  fail(text.str());
}

}  // namespace fastclip::bindings
