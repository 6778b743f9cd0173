/*
 * Timing for the benchmarks: repetitions for about a second after a warm-up, reported as the 20th, 50th and 80th
 * percentile. A benchmark first verifies its kernel and declares its FLOPs or bytes beside it.
 */
#ifndef ORIBI_BENCH_H
#define ORIBI_BENCH_H

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "oribi.h"

namespace bench {

struct Times {
  double p20, p50, p80; /* seconds */
};

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
Times measure(Body&& body, double seconds = 1) {
  constexpr size_t kLeast = 5;
  body();
  std::vector<double> times;
  for (const double end = now() + seconds; times.size() < kLeast || now() < end;) {
    const double begin = now();
    body();
    times.push_back(now() - begin);
  }
  std::sort(times.begin(), times.end());
  const auto at = [&times](double share) { return times[static_cast<size_t>(share * (times.size() - 1))]; };
  return {at(0.2), at(0.5), at(0.8)};
}

/* One line of results; amount: FLOPs or bytes of a call, unit: "GFLOP/s" or "GB/s". */
inline void report(const char* operation, const char* shape, int32_t threads, const Times& t, double amount,
                   const char* unit) {
  std::printf("%-24s %-36s threads=%d  p20 %9.3f  p50 %9.3f  p80 %9.3f ms  %7.1f %s\n", operation, shape, threads,
              t.p20 * 1e3, t.p50 * 1e3, t.p80 * 1e3, amount / t.p50 / 1e9, unit);
  std::fflush(stdout);
}

inline std::vector<float> normals(size_t count) {
  std::mt19937_64 engine(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(engine);
  return values;
}

inline void must(oribi_ctx* ctx, oribi_status status) {
  if (status == ORIBI_OK) return;
  std::fprintf(stderr, "%s\n", oribi_ctx_message(ctx));
  std::exit(1);
}

inline void verified(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s differs from the reference: not timed\n", what);
  std::exit(1);
}

inline oribi_ctx* context(int32_t threads) {
  oribi_ctx* ctx = nullptr;
  if (oribi_ctx_create(&ctx, ORIBI_CPU, 0, threads) == ORIBI_OK) return ctx;
  std::fprintf(stderr, "%s\n", oribi_create_message());
  std::exit(1);
}

}  // namespace bench
#endif
