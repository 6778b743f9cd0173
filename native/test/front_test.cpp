/* What the front answers where a device or a library is not there. */
#include <dlfcn.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>

#include "check.h"

using namespace check;

TEST(context) {
  Context ctx(2);
  CHECK(oribi_ctx_threads(ctx) == 2);
  const char* wanted = std::getenv("ORIBI_CPU_ISA");
  CHECK(wanted == nullptr || std::string(oribi_ctx_device_name(ctx)) == wanted);
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  CHECK(std::string(oribi_version()).find('.') != std::string::npos);
  CHECK(oribi_ctx_message(nullptr) != nullptr);
  oribi_ctx_destroy(nullptr);
}

TEST(contexts_that_cannot_be) {
  oribi_ctx* ctx = nullptr;
  CHECK(oribi_ctx_create(&ctx, ORIBI_CPU, 1, 0) == ORIBI_NO_DEVICE && ctx == nullptr);
  CHECK(std::string(oribi_create_message()).find("index 1") != std::string::npos);
  CHECK(oribi_ctx_create(&ctx, ORIBI_CPU, 0, -1) == ORIBI_INVALID_ARGUMENT);
  CHECK(std::string(oribi_create_message()).find("found -1") != std::string::npos);
  CHECK(oribi_ctx_create(&ctx, static_cast<oribi_device>(5), 0, 0) == ORIBI_INVALID_ARGUMENT);
  CHECK(oribi_ctx_create(nullptr, ORIBI_CPU, 0, 0) == ORIBI_INVALID_ARGUMENT);
  /* No machine has this card: without the library, without a driver or with one the answer is the same. */
  CHECK(oribi_ctx_create(&ctx, ORIBI_CUDA, 4711, 0) == ORIBI_NO_DEVICE && ctx == nullptr);
  std::printf("    %s\n", oribi_create_message());
  CHECK(std::strlen(oribi_create_message()) > 20);
}

/* What there is to know of a front that finds no kernels beside it; returns the name of what is wrong, or NULL. */
static const char* answer_alone() {
  oribi_ctx* ctx = nullptr;
  for (const oribi_device device : {ORIBI_CPU, ORIBI_CUDA}) {
    if (oribi_ctx_create(&ctx, device, 0, 0) != ORIBI_NO_DEVICE || ctx != nullptr) return "a context was made";
    if (std::string(oribi_create_message()).find("liboribi_c") == std::string::npos) return "the message names no library";
  }
  /* 0 would be taken for a workspace that is not needed. */
  if (oribi_rms_norm_backward_workspace(5, 64) != -1) return "oribi_rms_norm_backward_workspace";
  if (oribi_head_norm_backward_workspace(5, 2, 64) != -1) return "oribi_head_norm_backward_workspace";
  if (oribi_sum_workspace(5) != -1) return "oribi_sum_workspace";
  if (oribi_nf4_workspace(64) != -1) return "oribi_nf4_workspace";
  if (oribi_sample_workspace(1, 5) != -1) return "oribi_sample_workspace";
  if (oribi_dynamic_map_signed() != nullptr || oribi_dynamic_map_unsigned() != nullptr) return "a table";
  return nullptr;
}

/* This program, started again with the front in a folder where nothing lies beside it, ends before it comes to main. */
static const char* const kAlone = "ORIBI_TEST_FRONT_ALONE";

static const struct Alone {
  Alone() {
    if (std::getenv(kAlone) == nullptr) return;
    const char* wrong = answer_alone();
    if (wrong != nullptr) std::fprintf(stderr, "    alone: %s\n", wrong);
    std::_Exit(wrong == nullptr ? 0 : 1);
  }
} alone;

/* Where neither library can be loaded a size is -1 and a table NULL. */
TEST(sizes_where_no_library_can_be_loaded) {
  Dl_info front;
  CHECK(dladdr(reinterpret_cast<const void*>(&oribi_version), &front) != 0);
  const std::filesystem::path library = std::filesystem::canonical(front.dli_fname);
  std::string folder = (std::filesystem::temp_directory_path() / "oribi-front-XXXXXX").string();
  CHECK(mkdtemp(folder.data()) != nullptr);
  std::filesystem::copy_file(library, folder / std::filesystem::path(front.dli_fname).filename());
  const std::string command = std::string(kAlone) + "=1 LD_LIBRARY_PATH='" + folder + "' '" +
                              std::filesystem::canonical("/proc/self/exe").string() + "'";
  CHECK(std::system(command.c_str()) == 0);
  std::filesystem::remove_all(folder);
}

/* No size below zero reaches a kernel. */
TEST(sizes_below_zero) {
  Context ctx(1);
  Array x(16, ORIBI_F32);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "count", oribi_fill(ctx, x.data(), -1, 1.0f, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "count", oribi_cast(ctx, x.data(), x.data(), INT64_MIN, ORIBI_F32, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rows",
               oribi_cast_rows(ctx, x.data(), x.data(), -1, 4, 4, 4, ORIBI_F32, ORIBI_F32, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "cols",
               oribi_cast_rows(ctx, x.data(), x.data(), 4, -1, 4, 4, ORIBI_F32, ORIBI_F32, 0));
  for (const int64_t size : {int64_t{-1}, INT64_MIN / 4, INT64_MIN / 8 - 1}) {
    CHECK(oribi_rms_norm_backward_workspace(size, 64) <= 0 && oribi_rms_norm_backward_workspace(5, size) <= 0);
    CHECK(oribi_head_norm_backward_workspace(size, 2, 64) <= 0 && oribi_head_norm_backward_workspace(5, 2, size) <= 0);
    CHECK(oribi_sum_workspace(size) <= 0 && oribi_nf4_workspace(size) <= 0);
    CHECK(oribi_sample_workspace(size, 5) <= 0 && oribi_sample_workspace(5, size) <= 0);
    CHECK(oribi_route_workspace(size, 2, 8) <= 0 && oribi_route_workspace(5, size, 8) <= 0 && oribi_route_workspace(5, 2, size) <= 0);
  }
  CHECK(oribi_sum_workspace(5) > 0 && oribi_nf4_workspace(64) > 0 && oribi_sample_workspace(1, 5) > 0);
}
