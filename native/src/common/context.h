/*
 * The context behind oribi_ctx and the checks that open every entry point.
 *
 * Every library, front, CPU and CUDA, sees the same beginning of a context; a device's library may append its own fields.
 * An entry point always reads: check, unpack, run.
 *
 *   Check check(ctx, "oribi_fill");
 *   check.size("count", count).dtype("t", t).pointer("y", y, count);
 *   if (!check.ok()) return check.status();
 */
#ifndef ORIBI_COMMON_CONTEXT_H
#define ORIBI_COMMON_CONTEXT_H

#include "oribi.h"

namespace oribi {
class Crew;
}

struct oribi_ctx {
  oribi_device device; /* first, so that the front can forward by it */
  int32_t threads;
  char device_name[128];
  char message[1024];
  oribi::Crew* crew; /* of the CPU, from the first oribi_ctx_keep_awake on; the CPU's library owns it */
  bool awake;        /* the crew does the work */
};

namespace oribi {

#define ORIBI_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Leaves a sentence in the context and returns status. A NULL context loses the sentence, not the status. */
oribi_status fail(oribi_ctx* ctx, oribi_status status, const char* format, ...) ORIBI_PRINTF(3, 4);

/* The same for a context that could not be made: oribi_create_message reads it. */
oribi_status fail_create(oribi_status status, const char* format, ...) ORIBI_PRINTF(2, 3);

/* Collects the first thing wrong with the arguments of one call. */
class Check {
 public:
  Check(oribi_ctx* ctx, const char* function) : ctx_(ctx), function_(function) {
    if (ctx == nullptr) status_ = ORIBI_INVALID_ARGUMENT;
  }

  Check& size(const char* name, int64_t value, int64_t at_least = 0);

  /* The number of elements of an array, as the product of sizes that were checked before: it must not overflow. */
  Check& elements(const char* name, int64_t rows, int64_t columns);

  /* NULL is wrong when there is something to read or write there. */
  Check& pointer(const char* name, const void* pointer, int64_t count = 1);

  Check& dtype(const char* name, oribi_dtype value);

  Check& that(bool holds, const char* format, ...) ORIBI_PRINTF(3, 4);

  bool ok() const { return status_ == ORIBI_OK; }
  oribi_status status() const { return status_; }

 private:
  oribi_ctx* ctx_;
  const char* function_;
  oribi_status status_ = ORIBI_OK;
};

}  // namespace oribi
#endif
