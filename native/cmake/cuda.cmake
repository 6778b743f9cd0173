# The CUDA kernels, where there is a compiler for them. The architectures must be set before the language is enabled:
# CMake's own default is one that recent compilers no longer know.
if(ORIBI_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
set(CMAKE_CUDA_ARCHITECTURES ${ORIBI_CUDA_ARCHITECTURES})
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(ORIBI_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ORIBI_CUDA is ON, but nvcc was not found; put it on the path or give -DCMAKE_CUDA_COMPILER=")
  endif()
  message(STATUS "CUDA kernels: left out, nvcc was not found")
  return()
endif()
enable_language(CUDA)

# Machine code for each architecture asked for, and PTX of the newest that later cards can run: those with a letter
# (90a) are for one generation alone.
set(cuda_code ${ORIBI_CUDA_ARCHITECTURES})
list(TRANSFORM cuda_code APPEND "-real")
if(ORIBI_CUDA_PTX_ONLY)
  set(cuda_code "")
endif()
set(cuda_portable ${ORIBI_CUDA_ARCHITECTURES})
list(FILTER cuda_portable EXCLUDE REGEX "[a-z]")
if(cuda_portable)
  list(SORT cuda_portable COMPARE NATURAL)
  list(GET cuda_portable -1 newest)
  list(APPEND cuda_code "${newest}-virtual")
  if(newest LESS 80 AND NOT ORIBI_CUDA_PTX_ONLY)
    message(WARNING "CUDA kernels: without 80 in ORIBI_CUDA_ARCHITECTURES cards of 8.0 to 8.9 and those after Hopper run the PTX of "
                    "${newest}, which has no bfloat16")
  endif()
endif()

file(GLOB cuda_sources CONFIGURE_DEPENDS src/cuda/*.cu)
add_library(oribi_cuda SHARED ${cuda_sources} src/common/context.cpp)
oribi_library(oribi_cuda)
set_target_properties(oribi_cuda PROPERTIES CUDA_ARCHITECTURES "${cuda_code}" CUDA_STANDARD 17
                                            CUDA_RUNTIME_LIBRARY Static)
target_compile_options(oribi_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-warn-spills>)
# Source lines in profiles and sanitizer reports; they make the library four times as large.
option(ORIBI_CUDA_LINE_INFO "Keep the source lines of the CUDA kernels" OFF)
if(ORIBI_CUDA_LINE_INFO)
  target_compile_options(oribi_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>)
endif()
# Machine code packed for size: a sixth, for some milliseconds when a kernel is first used.
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
  target_compile_options(oribi_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>)
endif()
add_dependencies(oribi oribi_cuda)
list(APPEND oribi_libraries oribi_cuda)
message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER} for ${cuda_code}")
