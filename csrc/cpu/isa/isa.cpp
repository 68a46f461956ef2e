#include "cpu/isa/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(FASTCLIP_AVX_VNNI) || defined(FASTCLIP_AMX)
#include <cpuid.h>
#endif
#ifdef FASTCLIP_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(FASTCLIP_ARM64) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace fastclip::cpu {
namespace {

constexpr const char* kVariable = "FASTCLIP_CPU_CAPABILITY";

#ifdef FASTCLIP_AVX_VNNI
// Not every compiler knows it by a name: clang has __builtin_cpu_supports("avxvnni") from 15 on.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

#ifdef FASTCLIP_AMX
// Linux has to be asked for the registers of the matrix units, once for all threads of the process:
// it may lack them, or a sandbox refuse.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTile) == 0 || (d & kInt8) == 0) {
    return false;
  }
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

#ifdef FASTCLIP_ARM64
bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  return true;
#else
  return false;
#endif
}
#endif

// Best first. Whether the processor can run them is asked here, not in their own files: those are
// compiled for instructions that it may lack.
std::vector<const Kernels*> find_available() {
  std::vector<const Kernels*> available;
#ifdef FASTCLIP_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    if (__builtin_cpu_supports("avx512vnni")) {
#ifdef FASTCLIP_AMX
      if (has_amx()) available.push_back(&kAmx);
#endif
      available.push_back(&kAvx512Vnni);
    }
    available.push_back(&kAvx512);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
#ifdef FASTCLIP_AVX_VNNI
    if (has_avx_vnni()) available.push_back(&kAvx2Vnni);
#endif
    available.push_back(&kAvx2);
  }
#endif
#ifdef FASTCLIP_ARM64
  if (has_dot_product()) available.push_back(&kNeonDot);
#endif
  available.push_back(&kPortable);
  return available;
}

const std::vector<const Kernels*>& available() {
  static const std::vector<const Kernels*> found = find_available();
  return found;
}

std::atomic<const Kernels*> selected{nullptr};

const Kernels& find(const std::string& name, const std::string& source) {
  std::string allowed;
  for (const Kernels* candidate : available()) {
    if (name == candidate->name) return *candidate;
    allowed += (allowed.empty() ? "" : ", ") + std::string(candidate->name);
  }
  throw std::invalid_argument(
      source + ": '" + name +
      "' is not an instruction set of this build and processor; allowed: " + allowed);
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* candidate : available()) names.emplace_back(candidate->name);
  return names;
}

void select_isa(const std::string& name) {
  if (!name.empty()) {
    selected = &find(name, "isa");
    return;
  }
  const char* forced = std::getenv(kVariable);
  selected = forced != nullptr && *forced != '\0' ? &find(forced, kVariable) : available()[0];
}

const Kernels& kernels() {
  if (selected == nullptr) select_isa("");
  return *selected;
}

}  // namespace fastclip::cpu
