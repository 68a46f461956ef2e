#include "cpu/isa/isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#ifdef FASTCLIP_X86
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

#ifdef FASTCLIP_X86
// What the processor has and the system keeps between threads. __builtin_cpu_supports rests on a
// library of the compiler that clang for Windows does not link, and zig leaves empty.
class Processor {
 public:
  Processor() {
    unsigned other = 0;
    if (__get_cpuid(1, &other, &other, &basic_, &other) == 0 || !has(basic_, 27)) return;  // xgetbv
    __get_cpuid_count(7, 0, &other, &b_, &c_, &d_);
    __get_cpuid_count(7, 1, &a1_, &other, &other, &other);
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    keeps_ymm_ = (low & 0x6) == 0x6;
#if defined(__APPLE__)
    keeps_zmm_ = keeps_ymm_;  // macOS sets these bits once a thread uses the registers
#else
    keeps_zmm_ = (low & 0xe6) == 0xe6;
#endif
  }

  bool avx2() const { return keeps_ymm_ && has(basic_, 12) && has(basic_, 28) && has(b_, 5); }
  bool avx2_vnni() const { return avx2() && has(a1_, 4); }
  bool avx512() const {  // F, DQ, BW, VL
    return keeps_zmm_ && avx2() && has(b_, 16) && has(b_, 17) && has(b_, 30) && has(b_, 31);
  }
  bool avx512_vnni() const { return avx512() && has(c_, 11); }
  bool amx() const { return avx512_vnni() && has(d_, 24) && has(d_, 25); }  // tiles, int8

 private:
  static bool has(unsigned bits, int bit) { return (bits >> bit & 1) != 0; }

  unsigned basic_ = 0, b_ = 0, c_ = 0, d_ = 0, a1_ = 0;  // registers of cpuid
  bool keeps_ymm_ = false, keeps_zmm_ = false;
};
#endif

#ifdef FASTCLIP_AMX
// Linux has to be asked for the registers of the matrix units, once for all threads of the process:
// it may lack them, or a sandbox refuse.
bool may_use_amx() {
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
  const Processor processor;
#ifdef FASTCLIP_AMX
  if (processor.amx() && may_use_amx()) available.push_back(&kAmx);
#endif
  if (processor.avx512_vnni()) available.push_back(&kAvx512Vnni);
  if (processor.avx512()) available.push_back(&kAvx512);
#ifdef FASTCLIP_AVX_VNNI
  if (processor.avx2_vnni()) available.push_back(&kAvx2Vnni);
#endif
  if (processor.avx2()) available.push_back(&kAvx2);
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
