/* What a context answers for itself, the same in every library. */
#include "common/context.h"

#include <cstdarg>
#include <cstdio>

namespace {

constexpr int64_t kMaxElements = int64_t{1} << 58; /* bytes of it still fit in 64 bits, with room to add */

thread_local char create_message[1024] = "";

}  // namespace

namespace oribi {

oribi_status fail(oribi_ctx* ctx, oribi_status status, const char* format, ...) {
  if (ctx == nullptr) return status;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(ctx->message, sizeof ctx->message, format, arguments);
  va_end(arguments);
  return status;
}

oribi_status fail_create(oribi_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(create_message, sizeof create_message, format, arguments);
  va_end(arguments);
  return status;
}

Check& Check::size(const char* name, int64_t value, int64_t at_least) {
  if (ok() && value < at_least) {
    status_ = fail(ctx_, ORIBI_INVALID_ARGUMENT, "%s: %s must be at least %lld, found %lld", function_, name,
                   static_cast<long long>(at_least), static_cast<long long>(value));
  }
  return *this;
}

Check& Check::elements(const char* name, int64_t rows, int64_t columns) {
  if (ok() && columns > 0 && rows > kMaxElements / columns) {
    status_ = fail(ctx_, ORIBI_INVALID_ARGUMENT, "%s: %s of %lld x %lld elements is more than memory can hold", function_,
                   name, static_cast<long long>(rows), static_cast<long long>(columns));
  }
  return *this;
}

Check& Check::pointer(const char* name, const void* pointer, int64_t count) {
  if (ok() && pointer == nullptr && count > 0) {
    status_ = fail(ctx_, ORIBI_INVALID_ARGUMENT, "%s: %s is NULL, expected %lld elements", function_, name,
                   static_cast<long long>(count));
  }
  return *this;
}

Check& Check::dtype(const char* name, oribi_dtype value) {
  if (ok() && value != ORIBI_F32 && value != ORIBI_BF16 && value != ORIBI_F16) {
    status_ = fail(ctx_, ORIBI_INVALID_ARGUMENT, "%s: %s is %d, expected ORIBI_F32, ORIBI_BF16 or ORIBI_F16", function_,
                   name, static_cast<int>(value));
  }
  return *this;
}

Check& Check::that(bool holds, const char* format, ...) {
  if (!ok() || holds) return *this;
  char what[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  status_ = fail(ctx_, ORIBI_INVALID_ARGUMENT, "%s: %s", function_, what);
  return *this;
}

}  // namespace oribi

extern "C" {

const char* oribi_ctx_message(const oribi_ctx* ctx) { return ctx == nullptr ? "the context is NULL" : ctx->message; }

const char* oribi_create_message(void) { return create_message; }

const char* oribi_ctx_device_name(const oribi_ctx* ctx) { return ctx == nullptr ? "" : ctx->device_name; }

int32_t oribi_ctx_threads(const oribi_ctx* ctx) { return ctx == nullptr ? 0 : ctx->threads; }

const char* oribi_version(void) { return ORIBI_VERSION; }

}  // extern "C"
