/* The CPU's context: a number of threads, and a crew of them where they are to stay awake. */
#include "common/context.h"

#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <new>
#include <system_error>

#include "cpu/crew.h"

namespace {

constexpr int32_t kMaxThreads = 1024;

/* The cores that this process may run on: a container or taskset may grant fewer than the machine has. */
int32_t available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? static_cast<int32_t>(online) : 1;
}

}  // namespace

extern "C" oribi_status oribi_ctx_create(oribi_ctx** ctx, oribi_device device, int32_t index, int32_t threads) {
  if (ctx == nullptr) return oribi::fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: ctx is NULL");
  *ctx = nullptr;
  if (device != ORIBI_CPU || index != 0) {
    return oribi::fail_create(ORIBI_NO_DEVICE, "oribi_ctx_create: this library has device ORIBI_CPU, index 0 only; found device %d, index %d",
                              static_cast<int>(device), index);
  }
  if (threads < 0 || threads > kMaxThreads) {
    return oribi::fail_create(ORIBI_INVALID_ARGUMENT, "oribi_ctx_create: threads must be 0 (all cores) to %d, found %d",
                              kMaxThreads, threads);
  }
  oribi_ctx* made = new (std::nothrow) oribi_ctx{};
  if (made == nullptr) return oribi::fail_create(ORIBI_OUT_OF_MEMORY, "oribi_ctx_create: no memory for a context");
  made->device = ORIBI_CPU;
  made->threads = threads > 0 ? threads : available_cores();
  std::snprintf(made->device_name, sizeof made->device_name, "%s", ORIBI_ISA);
  *ctx = made;
  return ORIBI_OK;
}

extern "C" void oribi_ctx_destroy(oribi_ctx* ctx) {
  if (ctx != nullptr) delete ctx->crew;
  delete ctx;
}

extern "C" oribi_status oribi_ctx_keep_awake(oribi_ctx* ctx, int32_t on) {
  if (ctx == nullptr) return ORIBI_INVALID_ARGUMENT;
  if (on != 0 && ctx->threads > 1 && ctx->crew == nullptr) {
    try {
      ctx->crew = new oribi::Crew(ctx->threads);
    } catch (const std::bad_alloc&) {
      return oribi::fail(ctx, ORIBI_OUT_OF_MEMORY, "oribi_ctx_keep_awake: no memory for %d threads", ctx->threads);
    } catch (const std::system_error& e) {
      return oribi::fail(ctx, ORIBI_DEVICE_ERROR, "oribi_ctx_keep_awake: cannot start %d threads (%s)", ctx->threads - 1, e.what());
    }
  }
  ctx->awake = on != 0 && ctx->crew != nullptr;
  return ORIBI_OK;
}

extern "C" void* oribi_ctx_stream(const oribi_ctx*) { return nullptr; }

extern "C" int32_t oribi_ctx_architecture(const oribi_ctx*) { return 0; }

extern "C" oribi_status oribi_ctx_synchronize(oribi_ctx* ctx) { return ctx == nullptr ? ORIBI_INVALID_ARGUMENT : ORIBI_OK; }
