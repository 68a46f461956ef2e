#include "static_variables.h"

#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>

#include "emulator.h"

namespace fastclip::cuda::emulator {

thread_local char static_variables_anchor = 1;

namespace {

struct Variable {
  ptrdiff_t from_anchor;
  size_t bytes;

  unsigned char* address() const {
    return reinterpret_cast<unsigned char*>(&static_variables_anchor) + from_anchor;
  }
  bool is_garbage() const {
    const unsigned char* at = address();
    return at[0] == kGarbage && std::memcmp(at, at + 1, bytes - 1) == 0;
  }
};

// A variable of a function of the kernels or of a test program, as C++ spells such names.
bool is_of_kernel(std::string_view name) {
  for (const char* start : {"_ZZN8fastclip4cuda", "_ZZNK8fastclip4cuda", "_ZZN12_GLOBAL__N_1"}) {
    if (name.starts_with(start)) return true;
  }
  return false;
}

std::vector<Variable> find_variables() {
  Dl_info module{};
  if (dladdr(reinterpret_cast<void*>(&find_variables), &module) == 0) {
    throw std::runtime_error("emulator: no name of its own file");
  }
  std::string path = module.dli_fname;
  if (path.find('/') == std::string::npos) path = "/proc/self/exe";
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (bytes.size() < sizeof(Elf64_Ehdr)) throw std::runtime_error("emulator: cannot read " + path);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(bytes.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(bytes.data() + header->e_shoff);
  std::vector<Variable> variables;
  ptrdiff_t anchor = -1;
  for (int s = 0; s < header->e_shnum; ++s) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const char* names = bytes.data() + sections[sections[s].sh_link].sh_offset;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(bytes.data() + sections[s].sh_offset);
    for (size_t i = 0; i < sections[s].sh_size / sizeof(Elf64_Sym); ++i) {
      if (ELF64_ST_TYPE(symbols[i].st_info) != STT_TLS) continue;
      const std::string_view name = names + symbols[i].st_name;
      const auto at = static_cast<ptrdiff_t>(symbols[i].st_value);
      if (name.find("static_variables_anchor") != std::string_view::npos) anchor = at;
      if (is_of_kernel(name)) variables.push_back({at, symbols[i].st_size});
    }
  }
  if (anchor < 0) throw std::runtime_error("emulator: " + path + " has no symbols");
  for (Variable& variable : variables) variable.from_anchor -= anchor;
  return variables;
}

const std::vector<Variable>& variables() {
  static const std::vector<Variable> all = find_variables();
  return all;
}

}  // namespace

void StaticContents::clear() {
  for (const Variable& variable : variables()) {
    std::memset(variable.address(), kGarbage, variable.bytes);
  }
}

void StaticContents::forget() {
  for (auto& kept : kept_) kept.clear();
}

void StaticContents::save() {
  kept_.resize(variables().size());
  for (size_t i = 0; i < kept_.size(); ++i) {
    const Variable& variable = variables()[i];
    kept_[i].clear();
    if (variable.is_garbage()) continue;
    kept_[i].assign(variable.address(), variable.address() + variable.bytes);
    std::memset(variable.address(), kGarbage, variable.bytes);
  }
}

void StaticContents::restore() const {
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (!kept_[i].empty()) std::copy(kept_[i].begin(), kept_[i].end(), variables()[i].address());
  }
}

size_t StaticContents::used_bytes() {
  size_t bytes = 0;
  for (const Variable& variable : variables()) {
    if (!variable.is_garbage()) bytes += variable.bytes;
  }
  return bytes;
}

}  // namespace fastclip::cuda::emulator
