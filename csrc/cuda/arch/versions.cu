#include "cuda/arch/device.h"
#include "cuda/arch/versions.h"

namespace fastclip::cuda {

#ifdef FASTCLIP_EMULATE

bool emulated() { return true; }
int toolkit_version() { return 0; }
int driver_version() { return 0; }
int capability_of(int) { return capability(); }

#else

bool emulated() { return false; }

int toolkit_version() { return CUDART_VERSION; }

int driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "version of the driver");
  return version;
}

int capability_of(int device) {
  int major = 0;
  int minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device");
  return 10 * major + minor;
}

#endif

}  // namespace fastclip::cuda
