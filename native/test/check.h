/*
 * A small test harness: no library beyond the compiler's.
 *
 *   TEST(forward) { CHECK(...); compare("y", actual, exact, plain, t); }
 *
 * Each program has one main, here. It prints a line a test with the number of checks, and fails when a test makes none.
 * ORIBI_TEST_SEED changes the random data; a failure prints the seed.
 * ORIBI_TEST_QUICK=1: quick() holds, and a test may leave out its large sizes; for tools that slow a kernel down a
 * hundredfold. The program then says so.
 * An argument runs only the test of that name, or else those whose name contains it, so that such a tool can have them in parts.
 */
#ifndef ORIBI_TEST_CHECK_H
#define ORIBI_TEST_CHECK_H

#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "oribi.h"

/* ORIBI_TEST_DEVICE: the device under test. Each test program is built once for the CPU and, where there is nvcc, once
   more for CUDA; the arrays below then live in the card's memory. */
#ifndef ORIBI_TEST_DEVICE
#define ORIBI_TEST_DEVICE ORIBI_CPU
#endif
#ifdef ORIBI_TEST_CUDA
#include <cuda_runtime.h>
#endif

namespace check {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

inline int64_t checks = 0, failures = 0;
inline uint64_t seed = 20240817;
inline bool quick() {
  const char* text = std::getenv("ORIBI_TEST_QUICK");
  return text != nullptr && std::strcmp(text, "1") == 0;
}
inline std::string where; /* the case that is running: sizes and dtype */

inline void failed(const char* file, int line, const std::string& what) {
  failures++;
  std::printf("FAILED %s:%d %s: %s (ORIBI_TEST_SEED=%" PRIu64 ")\n", file, line, where.c_str(), what.c_str(), seed);
}

#define TEST(name)                                     \
  static void name();                                  \
  static const check::Register register_##name(#name, name); \
  static void name()

#define CHECK(condition)                                                            \
  do {                                                                              \
    check::checks++;                                                                \
    if (!(condition)) check::failed(__FILE__, __LINE__, "expected " #condition);    \
  } while (false)

/* The call must return ORIBI_OK. */
#define CHECK_OK(ctx, call)                                                                               \
  do {                                                                                                    \
    check::checks++;                                                                                      \
    if ((call) != ORIBI_OK) check::failed(__FILE__, __LINE__, std::string(#call ": ") + oribi_ctx_message(ctx)); \
  } while (false)

/* The call must return this status, with a message that contains these words. */
#define CHECK_STATUS(ctx, status, words, call)                                                              \
  do {                                                                                                      \
    check::checks++;                                                                                        \
    const oribi_status found_ = (call);                                                                     \
    if (found_ != (status) || std::string(oribi_ctx_message(ctx)).find(words) == std::string::npos)         \
      check::failed(__FILE__, __LINE__, std::string(#call ": status ") + std::to_string(found_) + ", message '" + \
                                            oribi_ctx_message(ctx) + "', expected " #status " and '" words "'"); \
  } while (false)

/* ------------------------------------------------------------------------------------------------ storage, by hand */

inline double round_off(oribi_dtype t) { return t == ORIBI_F32 ? 0x1p-24 : t == ORIBI_BF16 ? 0x1p-9 : 0x1p-12; }
inline const char* name_of(oribi_dtype t) { return t == ORIBI_F32 ? "f32" : t == ORIBI_BF16 ? "bf16" : "f16"; }
inline size_t size_of(oribi_dtype t) { return t == ORIBI_F32 ? 4 : 2; }

/* x rounded to t, to nearest even, in double arithmetic: it shares nothing with the library's bit tricks. */
inline double round_to(double x, oribi_dtype t) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int digits = t == ORIBI_F32 ? 24 : t == ORIBI_BF16 ? 8 : 11;
  const int least = t == ORIBI_F16 ? -14 : -126;
  const double largest = t == ORIBI_F32 ? 0x1.fffffep127 : t == ORIBI_BF16 ? 0x1.fep127 : 65504.0;
  int exponent;
  std::frexp(x, &exponent); /* x = m * 2^exponent, 0.5 <= m < 1 */
  const int spacing = (exponent - 1 < least ? least : exponent - 1) - (digits - 1);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -spacing)), spacing);
  return std::fabs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

inline double decode(uint16_t bits, oribi_dtype t) {
  const int fraction_bits = t == ORIBI_BF16 ? 7 : 10, exponent_bits = 15 - fraction_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
  const int exponent = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  double value;
  if (exponent == top) {
    value = fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(fraction, 1 - bias - fraction_bits);
  } else {
    value = std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

inline uint16_t encode(double x, oribi_dtype t) {
  const int fraction_bits = t == ORIBI_BF16 ? 7 : 10, bias = t == ORIBI_BF16 ? 127 : 15;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0, infinity = t == ORIBI_BF16 ? 0x7f80 : 0x7c00;
  if (std::isnan(x)) return static_cast<uint16_t>(sign | infinity | 1 << (fraction_bits - 1));
  const double magnitude = std::fabs(round_to(x, t));
  if (std::isinf(magnitude)) return sign | infinity;
  int exponent = 0;
  if (magnitude > 0) std::frexp(magnitude, &exponent);
  const int biased = magnitude > 0 && exponent - 1 + bias > 0 ? exponent - 1 + bias : 0;
  const double scaled = std::ldexp(magnitude, fraction_bits + bias - (biased > 0 ? biased : 1));
  const int fraction = static_cast<int>(scaled) & ((1 << fraction_bits) - 1);
  return static_cast<uint16_t>(sign | biased << fraction_bits | fraction);
}

/* A block of bytes that the host fills and reads and the device under test works on. Asking for a side's pointer brings
   the newest bytes there; on the CPU both sides are one. */
class Block {
 public:
  explicit Block(size_t bytes) : bytes_(bytes) {
    host_ = static_cast<unsigned char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
#ifdef ORIBI_TEST_CUDA
    must(cudaMalloc(&device_, bytes));
#endif
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    std::free(host_);
#ifdef ORIBI_TEST_CUDA
    cudaFree(device_);
#endif
  }

  /* To write: the device's copy is old from here on. */
  unsigned char* host() {
    fetch();
    newest_ = Side::kHost;
    return host_;
  }
  const unsigned char* read() const {
    fetch();
    return host_;
  }
  unsigned char* device() {
#ifdef ORIBI_TEST_CUDA
    if (newest_ == Side::kHost) {
      /* A copy out of pageable memory may return before it has arrived, and a context's stream does not wait for it. */
      must(cudaMemcpy(device_, host_, bytes_, cudaMemcpyHostToDevice));
      must(cudaDeviceSynchronize());
    }
    newest_ = Side::kDevice;
    return device_;
#else
    return host_;
#endif
  }
  size_t bytes() const { return bytes_; }

 private:
  enum class Side { kHost, kDevice, kBoth };

  void fetch() const {
#ifdef ORIBI_TEST_CUDA
    if (newest_ != Side::kDevice) return;
    must(cudaDeviceSynchronize());
    must(cudaMemcpy(host_, device_, bytes_, cudaMemcpyDeviceToHost));
    newest_ = Side::kBoth;
#endif
  }
#ifdef ORIBI_TEST_CUDA
  static void must(cudaError_t error) {
    if (error == cudaSuccess) return;
    std::printf("FAILED %s: %s\n", where.c_str(), cudaGetErrorString(error));
    std::exit(1); /* nothing after a fault can be trusted */
  }
  unsigned char* device_ = nullptr;
#endif
  size_t bytes_;
  unsigned char* host_;
  mutable Side newest_ = Side::kHost;
};

/* Plain numbers in the device's memory: labels, positions, a scale. */
template <class T>
class Plain {
 public:
  Plain(const std::vector<T>& values) : count_(values.size()), block_(count_ * sizeof(T) + 1) {
    if (count_ > 0) std::memcpy(block_.host(), values.data(), count_ * sizeof(T));
  }
  Plain(std::initializer_list<T> values) : Plain(std::vector<T>(values)) {}
  explicit Plain(size_t count, T fill = T{}) : Plain(std::vector<T>(count, fill)) {}

  T* data() { return reinterpret_cast<T*>(block_.device()); }
  size_t count() const { return count_; }
  T get(size_t i) const { return values()[i]; }
  std::vector<T> values() const {
    std::vector<T> all(count_);
    if (count_ > 0) std::memcpy(all.data(), block_.read(), count_ * sizeof(T));
    return all;
  }

 private:
  size_t count_;
  Block block_;
};

/* An array in a storage type, aligned to 64 bytes, with guards before and after it that a kernel must not touch.
   Its pointers are the device's; one that was taken before the host changed the array must be taken again. */
class Array {
 public:
  Array(const std::vector<double>& values, oribi_dtype t)
      : count_(values.size()), t_(t), block_((count_ * size_of(t) + 63) / 64 * 64 + 2 * kGuard) {
    std::memset(block_.host(), kPattern, block_.bytes());
    for (size_t i = 0; i < count_; i++) set(i, values[i]);
  }
  Array(size_t count, oribi_dtype t, double fill = 0) : Array(std::vector<double>(count, fill), t) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
    checks++;
    if (!guards_intact()) failed(__FILE__, __LINE__, "written outside an array of " + std::to_string(count_) + " elements");
  }

  void* data() { return block_.device() + kGuard; }
  float* f32() { return static_cast<float*>(data()); }
  size_t count() const { return count_; }

  double get(size_t i) const {
    const unsigned char* p = block_.read() + kGuard + i * size_of(t_);
    if (t_ == ORIBI_F32) {
      float x;
      std::memcpy(&x, p, sizeof x);
      return x;
    }
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return decode(bits, t_);
  }

  void set(size_t i, double x) {
    unsigned char* p = block_.host() + kGuard + i * size_of(t_);
    if (t_ == ORIBI_F32) {
      const float f = static_cast<float>(x);
      std::memcpy(p, &f, sizeof f);
    } else {
      const uint16_t bits = encode(x, t_);
      std::memcpy(p, &bits, sizeof bits);
    }
  }

  /* What the array holds, that is, after rounding to its type. */
  std::vector<double> values() const {
    std::vector<double> all(count_);
    for (size_t i = 0; i < count_; i++) all[i] = get(i);
    return all;
  }

  bool same_bits(const Array& other) const {
    return count_ == other.count_ && t_ == other.t_ &&
           std::memcmp(block_.read() + kGuard, other.block_.read() + kGuard, count_ * size_of(t_)) == 0;
  }

 private:
  static constexpr size_t kGuard = 128;
  static constexpr int kPattern = 0xa5;

  bool guards_intact() const {
    for (size_t i = 0; i < kGuard; i++) {
      if (block_.read()[i] != kPattern) return false;
    }
    for (size_t i = kGuard + count_ * size_of(t_); i < block_.bytes(); i++) {
      if (block_.read()[i] != kPattern) return false;
    }
    return true;
  }

  size_t count_;
  oribi_dtype t_;
  Block block_;
};

/* ------------------------------------------------------------------------------------------------------------ data */

class Random {
 public:
  explicit Random(uint64_t stream) : state_(stream) { state_ = bits() ^ seed * 0xd1342543de82ef95u; }

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53; }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  double normal() { return std::sqrt(-2 * std::log(uniform(0x1p-53, 1))) * std::cos(6.283185307179586 * uniform(0, 1)); }
  std::vector<double> normals(int64_t count, double mean = 0, double std = 1) {
    std::vector<double> all(static_cast<size_t>(count));
    for (double& x : all) x = mean + std * normal();
    return all;
  }

 private:
  uint64_t state_;
};

/* ----------------------------------------------------------------------------------------------------- comparisons */

inline double largest(const std::vector<double>& values) {
  double most = 0;
  for (double x : values) most = std::fabs(x) > most ? std::fabs(x) : most;
  return most;
}

/* Every element within tol of what is expected; the first that is not is printed, with the number of them. */
inline void compare_within(const char* what, const std::vector<double>& actual, const std::vector<double>& expected,
                           double tol) {
  checks++;
  if (actual.size() != expected.size()) return failed(__FILE__, __LINE__, std::string(what) + ": sizes differ");
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    const bool same = actual[i] == expected[i] || (std::isnan(actual[i]) && std::isnan(expected[i]));
    const double diff = std::fabs(actual[i] - expected[i]);
    if (!same && !(diff <= tol) && wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  char text[256];
  std::snprintf(text, sizeof text, "%s[%zu] is %.9g, expected %.9g, tolerance %.3g; %zu of %zu are wrong", what, first,
                actual[first], expected[first], tol, wrong, actual.size());
  failed(__FILE__, __LINE__, text);
}

/* The policy of accuracy: `exact` is the reference in double, `plain` a plain implementation in fp32 that stores its
   results in t. Our largest error may be twice the plain one's, plus a floor of one rounding of the largest value; in
   fp32 of four, because sums taken in another order differ by more than the last rounding. `term`: the largest term of
   a sum that cancels, where that is larger than the result: roundings are of its size. */
inline void compare(const char* what, const std::vector<double>& actual, const std::vector<double>& exact,
                    const std::vector<double>& plain, oribi_dtype t, double term = 0) {
  double plain_error = 0;
  for (size_t i = 0; i < exact.size(); i++) plain_error = std::fmax(plain_error, std::fabs(plain[i] - exact[i]));
  const double result_floor = (t == ORIBI_F32 ? 8 : 2) * round_off(t) * largest(exact);
  const double term_floor = 8 * round_off(ORIBI_F32) * term;
  compare_within(what, actual, exact, 2 * plain_error + std::fmax(result_floor, term_floor));
}

inline std::vector<double> rounded(std::vector<double> values, oribi_dtype t) {
  for (double& x : values) x = round_to(x, t);
  return values;
}

/* Central differences of a scalar function against its derivative, in double. */
template <class F>
void compare_derivative(const char* what, std::vector<double> x, const std::vector<double>& derivative, F&& f,
                        double step = 1e-6, double tol = 1e-6) {
  std::vector<double> numeric(x.size());
  for (size_t i = 0; i < x.size(); i++) {
    const double here = x[i];
    x[i] = here + step;
    const double above = f(x);
    x[i] = here - step;
    numeric[i] = (above - f(x)) / (2 * step);
    x[i] = here;
  }
  compare_within(what, numeric, derivative, tol * (1 + largest(derivative)));
}

/* ------------------------------------------------------------------------------------------------------- contexts */

/* A context of the device under test that lives for one test. */
class Context {
 public:
  explicit Context(int32_t threads = 0, oribi_device device = ORIBI_TEST_DEVICE) {
    if (oribi_ctx_create(&ctx_, device, 0, threads) != ORIBI_OK) failed(__FILE__, __LINE__, oribi_create_message());
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { oribi_ctx_destroy(ctx_); }
  operator oribi_ctx*() const { return ctx_; }

 private:
  oribi_ctx* ctx_ = nullptr;
};

constexpr oribi_dtype kDtypes[] = {ORIBI_F32, ORIBI_BF16, ORIBI_F16};

inline int run_all(const char* program, oribi_device device, const char* only) {
  if (const char* text = std::getenv("ORIBI_TEST_SEED")) seed = std::strtoull(text, nullptr, 10);
  oribi_ctx* ctx = nullptr;
  if (oribi_ctx_create(&ctx, device, 0, 0) != ORIBI_OK) {
    std::printf("SKIPPED %s: 0 of %zu tests ran: %s\n", program, tests().size(), oribi_create_message());
    return 77;
  }
  const std::string device_name = oribi_ctx_device_name(ctx);
  oribi_ctx_destroy(ctx);
  int64_t total = 0;
  size_t ran = 0;
  bool exact = false;
  for (const Test& test : tests()) exact |= std::strcmp(test.name, only) == 0;
  for (const Test& test : tests()) {
    if (exact ? std::strcmp(test.name, only) != 0 : std::strstr(test.name, only) == nullptr) continue;
    ran++;
    checks = 0;
    where = test.name;
    test.run();
    if (checks == 0) failed(__FILE__, __LINE__, "the test checked nothing");
    total += checks;
    std::printf("  %-32s %8" PRId64 " checks\n", test.name, checks);
    std::fflush(stdout); /* to be seen although a later test should never end */
  }
  std::printf("%s: %zu tests, %" PRId64 " checks, %" PRId64 " failures (%s, seed %" PRIu64 "%s)\n", program, ran,
              total, failures, device_name.c_str(), seed, quick() ? ", quick" : "");
  return failures == 0 && ran > 0 ? 0 : 1;
}

}  // namespace check

int main(int count, char** arguments) {
  const char* slash = std::strrchr(arguments[0], '/');
  return check::run_all(slash != nullptr ? slash + 1 : arguments[0], ORIBI_TEST_DEVICE, count > 1 ? arguments[1] : "");
}
#endif
