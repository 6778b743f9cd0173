/*
 * Timing on a CUDA card: a case is verified, then timed. Before each repetition a buffer larger than the L2 cache is
 * written, so that no case finds its inputs there, and so that the card is busy while the host launches. Then one is read:
 * the cache holds back what is written to it, and a case that began with it full of such lines would pay for the 50 MB of
 * an H100, some 16 us. What a case itself writes last may stay there unpaid, as long as it is less than the cache.
 * --dirty leaves the lines of the writes, as the kernel before one in a training step may. Time is taken by
 * CUDA events on the context's stream and reported as the 20th, 50th and 80th percentile; the bytes or FLOPs that a case
 * must move or do are declared beside it. The ceiling for bytes is the card's own copy, measured in the same way.
 *
 *   cuda_bench::Bench bench(argv, argc);   options: [--csv=PATH] [--only=WORD] [--dirty]
 *   bench.time("rms_norm_forward", "8192x4096", ORIBI_BF16, bytes(4.0 * n * c), [&] { return oribi_rms_norm_forward(...); },
 *              [&] { return largest_error(...) <= tolerance; });
 *
 * Programs that use this link the static CUDA runtime; they need no nvcc.
 */
#ifndef ORIBI_CUDA_BENCH_H
#define ORIBI_CUDA_BENCH_H

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "common/dtype.h"
#include "oribi.h"

namespace cuda_bench {

/* Twice the L2 cache of an H100 and about that of the largest card so far; each of memset and a sum take some 50 us for it. */
constexpr size_t kFlushBytes = size_t{128} << 20;
constexpr size_t kCopyBytes = size_t{1} << 30; /* of the copy that gives the ceiling, read and written */
constexpr size_t kLeastRepetitions = 10, kMostRepetitions = 100;
constexpr double kSeconds = 0.1; /* of kernel time for a case, unless the most repetitions come first */

inline void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

inline size_t size_of(oribi_dtype t) { return t == ORIBI_F32 ? 4 : 2; }
inline const char* name_of(oribi_dtype t) { return t == ORIBI_F32 ? "f32" : t == ORIBI_BF16 ? "bf16" : "f16"; }

/* What a call must move or do: the numerator of its rate. */
struct Work {
  double amount;
  bool flops;
};
inline Work bytes(double amount) { return {amount, false}; }
inline Work flops(double amount) { return {amount, true}; }

/* Memory of the card, freed with the object. */
class Memory {
 public:
  explicit Memory(size_t size) : size_(size) { must(cudaMalloc(&data_, size > 0 ? size : 1), "cudaMalloc"); }
  Memory(Memory&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { cudaFree(data_); }

  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }
  operator void*() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_;
};

template <class T>
Memory upload(const std::vector<T>& values) {
  Memory memory(values.size() * sizeof(T));
  must(cudaMemcpy(memory, values.data(), memory.size(), cudaMemcpyHostToDevice), "upload");
  return memory;
}

/* fp32 numbers of the host as an array of type t. */
inline Memory upload(const std::vector<float>& values, oribi_dtype t) {
  Memory memory(values.size() * size_of(t));
  oribi::dispatch(t, [&](auto type) {
    using T = decltype(type);
    std::vector<T> stored(values.size());
    for (size_t i = 0; i < values.size(); i++) stored[i] = oribi::from_float<T>(values[i]);
    must(cudaMemcpy(memory, stored.data(), memory.size(), cudaMemcpyHostToDevice), "upload");
  });
  return memory;
}

/* `count` elements from `first` on, as numbers. */
inline std::vector<double> download(const void* memory, int64_t first, int64_t count, oribi_dtype t) {
  std::vector<double> values(static_cast<size_t>(count));
  oribi::dispatch(t, [&](auto type) {
    using T = decltype(type);
    std::vector<T> stored(values.size());
    must(cudaDeviceSynchronize(), "download");
    must(cudaMemcpy(stored.data(), static_cast<const T*>(memory) + first, stored.size() * sizeof(T), cudaMemcpyDeviceToHost),
         "download");
    for (size_t i = 0; i < values.size(); i++) values[i] = oribi::to_float(stored[i]);
  });
  return values;
}

/* Normal random numbers; zeros would draw less power and run faster. A large array repeats its first 2^20 + 7. */
inline Memory normals(int64_t count, oribi_dtype t, float std = 1, uint64_t seed = 7) {
  const size_t made = std::min(static_cast<size_t>(count), (size_t{1} << 20) + 7), element = size_of(t);
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0, std);
  std::vector<float> values(made);
  for (float& x : values) x = normal(engine);
  const Memory first = upload(values, t);
  Memory all(static_cast<size_t>(count) * element);
  for (size_t at = 0; at < all.size(); at += first.size()) {
    must(cudaMemcpy(all.as<char>() + at, first, std::min(first.size(), all.size() - at), cudaMemcpyDeviceToDevice), "normals");
  }
  return all;
}

/* The largest |actual - expected| / (1 + |expected|); infinite when one of them is NaN or the sizes differ. */
inline double largest_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double most = actual.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < actual.size() && i < expected.size(); i++) {
    const double error = std::fabs(actual[i] - expected[i]) / (1 + std::fabs(expected[i]));
    most = !(error <= most) ? (std::isnan(error) ? INFINITY : error) : most;
  }
  return most;
}

class Bench {
 public:
  Bench(char** arguments, int count)
      : flush_(kFlushBytes), clean_(kFlushBytes), sum_(sizeof(double)), workspace_(oribi_sum_workspace(kFlushBytes / 4)) {
    for (int i = 1; i < count; i++) {
      if (std::strncmp(arguments[i], "--csv=", 6) == 0) {
        csv_ = arguments[i] + 6;
      } else if (std::strncmp(arguments[i], "--only=", 7) == 0) {
        only_ = arguments[i] + 7;
      } else if (std::strcmp(arguments[i], "--dirty") == 0) {
        dirty_ = true;
      } else {
        std::fprintf(stderr, "usage: %s [--csv=PATH] [--only=WORD] [--dirty]; found %s\n", arguments[0], arguments[i]);
        std::exit(2);
      }
    }
    if (oribi_ctx_create(&ctx_, ORIBI_CUDA, 0, 0) != ORIBI_OK) {
      std::fprintf(stderr, "%s\n", oribi_create_message());
      std::exit(1);
    }
    for (auto& pair : events_) {
      for (cudaEvent_t& event : pair) must(cudaEventCreate(&event), "cudaEventCreate");
    }
    must(cudaMemset(clean_, 0, clean_.size()), "cudaMemset");
    must(cudaDeviceSynchronize(), "cudaMemset");
    driver_ = driver();
    std::printf("%s, driver %s, cache %s\n", oribi_ctx_device_name(ctx_), driver_.c_str(), dirty_ ? "full of writes" : "clean");
    measure_copy();
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    for (auto& pair : events_) {
      for (cudaEvent_t event : pair) cudaEventDestroy(event);
    }
    oribi_ctx_destroy(ctx_);
  }

  oribi_ctx* ctx() const { return ctx_; }
  cudaStream_t stream() const { return static_cast<cudaStream_t>(oribi_ctx_stream(ctx_)); }
  double copy_rate() const { return copy_rate_; } /* bytes a second, read plus written */

  /* Whether --only leaves this operation in; for data that takes long to make. */
  bool wanted(const std::string& operation) const { return operation.find(only_) != std::string::npos; }

  /* Runs once, verifies, times; returns the median in seconds, 0 where --only leaves the case out. */
  double time(const std::string& operation, const std::string& shape, oribi_dtype t, Work work,
              const std::function<oribi_status()>& run, const std::function<bool()>& verify) {
    if (!wanted(operation)) return 0;
    must(cudaDeviceSynchronize(), "the case's data"); /* the context's stream does not wait for copies outside of it */
    call(operation, run);
    if (oribi_ctx_synchronize(ctx_) != ORIBI_OK) stop(operation, oribi_ctx_message(ctx_));
    if (!verify()) stop(operation, "differs from its reference: not timed");
    const double seconds = report(operation, shape, t, work, measure([&] { call(operation, run); }));
    if (oribi_ctx_synchronize(ctx_) != ORIBI_OK) stop(operation, oribi_ctx_message(ctx_));
    return seconds;
  }

  /* One of several ways to compute the same. */
  struct Way {
    std::string operation;
    std::function<void()> run; /* only enqueues work on stream() */
    std::function<bool()> verify;
  };

  /* Times the ways by turns: a card at its power limit lowers its clock under load, so that whatever is timed first would
     look faster. The first way's rate becomes the ceiling of the others. */
  void time_in_turns(const std::string& shape, oribi_dtype t, Work work, const std::vector<Way>& all) {
    std::vector<Way> ways;
    std::copy_if(all.begin(), all.end(), std::back_inserter(ways), [this](const Way& way) { return wanted(way.operation); });
    if (ways.empty()) return;
    must(cudaDeviceSynchronize(), "the case's data");
    std::vector<std::function<void()>> bodies;
    for (const Way& way : ways) {
      way.run();
      if (oribi_ctx_synchronize(ctx_) != ORIBI_OK) stop(way.operation, oribi_ctx_message(ctx_));
      if (way.verify && !way.verify()) stop(way.operation, "differs from its reference: not timed");
      bodies.push_back(way.run);
    }
    const std::vector<Times> times = measure_in_turns(bodies);
    flop_ceiling_ = 0;
    for (size_t i = 0; i < ways.size(); i++) {
      const double seconds = report(ways[i].operation, shape, t, work, times[i]);
      if (i == 0) flop_ceiling_ = work.amount / seconds;
    }
  }

  /* For a body that answers with a status: stops with the context's message unless it is OK. */
  void call(const std::string& operation, const std::function<oribi_status()>& run) {
    if (run() != ORIBI_OK) stop(operation, oribi_ctx_message(ctx_));
  }

 private:
  struct Times {
    double p20, p50, p80; /* seconds */
  };

  void stop(const std::string& operation, const char* why) {
    std::fprintf(stderr, "%s: %s\n", operation.c_str(), why);
    std::exit(1);
  }

  Times measure(const std::function<void()>& body) { return measure_in_turns({body}).front(); }

  /* Nothing that a case reads is left in the cache, and, but for --dirty, nothing that must still be written to memory. */
  void flush(int value) {
    must(cudaMemsetAsync(flush_, value, flush_.size(), stream()), "cudaMemsetAsync");
    if (dirty_) return;
    call("flush", [this] {
      return oribi_sum_squares(ctx_, sum_.as<double>(), clean_.as<float>(), workspace_, static_cast<int64_t>(clean_.size() / 4), 0);
    });
  }

  /* All repetitions of a batch are enqueued before any is waited for: the host's latency is not in the times. */
  std::vector<Times> measure_in_turns(const std::vector<std::function<void()>>& bodies) {
    for (const auto& body : bodies) body();
    std::vector<std::vector<double>> times(bodies.size());
    double total = 0;
    size_t turn = 0;
    const auto enough = [&] {
      const size_t least = times.back().size(); /* the last has its turn last */
      return least >= kMostRepetitions || (least >= kLeastRepetitions && total >= kSeconds * static_cast<double>(bodies.size()));
    };
    while (!enough()) {
      const size_t first = turn;
      for (auto& pair : events_) {
        flush(static_cast<int>(turn));
        must(cudaEventRecord(pair[0], stream()), "cudaEventRecord");
        bodies[turn++ % bodies.size()]();
        must(cudaEventRecord(pair[1], stream()), "cudaEventRecord");
      }
      must(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
      turn = first;
      for (auto& pair : events_) {
        float milliseconds = 0;
        must(cudaEventElapsedTime(&milliseconds, pair[0], pair[1]), "cudaEventElapsedTime");
        times[turn++ % bodies.size()].push_back(milliseconds * 1e-3);
        total += milliseconds * 1e-3;
      }
    }
    std::vector<Times> all;
    for (std::vector<double>& of_one : times) {
      std::sort(of_one.begin(), of_one.end());
      const auto at = [&of_one](double share) { return of_one[static_cast<size_t>(share * static_cast<double>(of_one.size() - 1))]; };
      all.push_back({at(0.2), at(0.5), at(0.8)});
    }
    return all;
  }

  double report(const std::string& operation, const std::string& shape, oribi_dtype t, Work work, const Times& times) {
    const double rate = work.amount / times.p50, ceiling = work.flops ? flop_ceiling_ : copy_rate_;
    const double shown = rate / (work.flops ? 1e12 : 1e9);
    const char* unit = work.flops ? "TFLOP/s" : "GB/s";
    std::printf("%-28s %-28s %-4s p20 %9.4f  p50 %9.4f  p80 %9.4f ms  %8.1f %-7s", operation.c_str(), shape.c_str(), name_of(t),
                times.p20 * 1e3, times.p50 * 1e3, times.p80 * 1e3, shown, unit);
    if (ceiling > 0) std::printf("  %5.1f %% of %.1f", 100 * rate / ceiling, ceiling / (work.flops ? 1e12 : 1e9));
    std::printf("\n");
    std::fflush(stdout);
    if (!csv_.empty()) append(operation, shape, t, times.p50 * 1e3, shown, unit);
    return times.p50;
  }

  void append(const std::string& operation, const std::string& shape, oribi_dtype t, double milliseconds, double rate,
              const char* unit) {
    std::FILE* file = std::fopen(csv_.c_str(), "a");
    if (file == nullptr) stop(csv_, "cannot be opened");
    if (std::ftell(file) == 0) std::fprintf(file, "operation,shape,dtype,gpu,driver,ms,rate,unit,date\n");
    char date[16];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
    std::fprintf(file, "%s,%s,%s,%s,%s,%.5f,%.2f,%s,%s\n", operation.c_str(), shape.c_str(), name_of(t),
                 oribi_ctx_device_name(ctx_), driver_.c_str(), milliseconds, rate, unit, date);
    std::fclose(file);
  }

  /* The better of the driver's copy and of a kernel's; the latter is oribi_cast between equal types. */
  void measure_copy() {
    const Memory from = normals(kCopyBytes / 4, ORIBI_F32), to(kCopyBytes);
    const Times driver = measure([&] {
      must(cudaMemcpyAsync(to, from, kCopyBytes, cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
    });
    const auto kernel = [&] { return oribi_cast(ctx_, to, from, kCopyBytes / 4, ORIBI_F32, ORIBI_F32); };
    const bool has_kernel = kernel() == ORIBI_OK;
    const Times cast = has_kernel ? measure([&] { kernel(); }) : driver;
    copy_rate_ = 2.0 * kCopyBytes / std::min(driver.p50, cast.p50);
    report("copy: cudaMemcpyAsync", "1 GiB", ORIBI_F32, bytes(2.0 * kCopyBytes), driver);
    if (has_kernel) report("copy: oribi_cast", "1 GiB", ORIBI_F32, bytes(2.0 * kCopyBytes), cast);
  }

  /* The driver's version as NVIDIA names it, or else the CUDA version that it supports. */
  static std::string driver() {
    char line[256] = "", version[64] = "";
    if (std::FILE* file = std::fopen("/proc/driver/nvidia/version", "r")) {
      const bool read = std::fgets(line, sizeof line, file) != nullptr;
      std::fclose(file);
      const char* words = read ? std::strstr(line, "Kernel Module") : nullptr;
      for (; words != nullptr && *words != '\0'; words++) {
        const bool number = std::sscanf(words, "%63[0-9.]", version) == 1;
        if (number && std::strchr(version, '.') != nullptr) return version; /* not the 86 of x86_64 */
      }
    }
    int cuda = 0;
    cudaDriverGetVersion(&cuda);
    return "CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
  }

  oribi_ctx* ctx_ = nullptr;
  Memory flush_, clean_, sum_, workspace_;
  bool dirty_ = false;
  cudaEvent_t events_[10][2];
  double copy_rate_ = 0, flop_ceiling_ = 0;
  std::string csv_, only_, driver_;
};

}  // namespace cuda_bench
#endif
