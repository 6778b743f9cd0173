/* What the front answers where a device or a library is not there. */
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
