# The library fastclip_cuda: the kernels for CUDA devices or, emulated, for the CPU.
file(GLOB cuda_sources CONFIGURE_DEPENDS cuda/*/*.cu)

if(FASTCLIP_CUDA STREQUAL "emulate")
  set(emulator ${CMAKE_CURRENT_SOURCE_DIR}/../tests/cuda/emulator)
  file(GLOB emulator_sources CONFIGURE_DEPENDS ${emulator}/*.cpp)
  add_library(fastclip_cuda STATIC ${cuda_sources} ${emulator_sources})
  set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  target_include_directories(fastclip_cuda PRIVATE ${emulator})
  target_compile_definitions(fastclip_cuda PRIVATE FASTCLIP_EMULATE FASTCLIP_SM90A)
  # Products and sums are fused, as nvcc does it, and fma is one instruction: -march=native. The
  # tests run where they are built.
  target_compile_options(fastclip_cuda PRIVATE -Wall -Wextra -Wno-unknown-pragmas -ffp-contract=fast
    -march=native)
  set(architectures "the CPU")
else()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    if(DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
    else()
      # The PTX of 80 is what newer devices than Hopper compile at the first call.
      set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
    endif()
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
    message(FATAL_ERROR "fastclip needs nvcc 12.4 or newer, ${CMAKE_CUDA_COMPILER} is "
      "${CMAKE_CUDA_COMPILER_VERSION}; FASTCLIP_CUDA=0 builds without CUDA")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # what CMake 3.25 does not know of nvcc
  endif()
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  add_library(fastclip_cuda STATIC ${cuda_sources})
  target_compile_options(fastclip_cuda PRIVATE
    --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra)
  if("${CMAKE_CUDA_ARCHITECTURES}" MATCHES "90a")
    target_compile_definitions(fastclip_cuda PRIVATE FASTCLIP_SM90A)
  endif()
  list(JOIN CMAKE_CUDA_ARCHITECTURES ", " architectures)
endif()

target_include_directories(fastclip_cuda PUBLIC include ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(fastclip_cuda PRIVATE Threads::Threads)
target_compile_definitions(fastclip_cuda INTERFACE FASTCLIP_CUDA
  FASTCLIP_CUDA_ARCHITECTURES="${architectures}")
