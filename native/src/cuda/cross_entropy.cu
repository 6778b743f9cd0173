/*
 * Math        z = logits * logit_scale, then softcap * tanh(z / softcap) unless softcap is 0
 *             lse = max(z) + log(sum of exp(z - max));  loss = lse - z[label]
 *             dlogits = (exp(z - lse) - onehot(label)) * grad_scale * dz/dlogits
 * Shapes      logits, dlogits (N,V)  labels, loss (N)  grad_scale (1)
 * Layout      row-major, any V: a row is read 16 bytes at a time between its first and last multiple of 16 bytes;
 *             dlogits may be logits
 * Precision   storage fp32, bf16 or fp16, arithmetic fp32; exponentials by the hardware's exp2, of z - max. The loss is
 *             (max - z[label]) + log(sum), so that logits of 1e4 lose nothing to the subtraction
 * Saved       nothing: gradient and loss come from one call
 * Writes      dlogits =, loss =; both 0 where label < 0. A NaN or +infinity in a row makes its loss NaN
 * Determinism bit-exact on one GPU: a row belongs to one block, sums in a fixed order
 * Limits      V <= 262144, N <= 2^31 - 1; larger returns UNSUPPORTED. A label >= V: zeros, and INVALID_ARGUMENT from
 *             oribi_ctx_synchronize
 */
#include "cuda/cross_entropy.cuh"

#include "common/cross_entropy.h"

namespace oribi {
namespace {

constexpr int64_t kMaxVocabulary = 262144;

/* One block a row, and with 1024 threads one block a multiprocessor: the rows under way, 33 MB of 132 rows of 128256 bf16
   logits, stay in the L2 cache of an H100 until their second read. */
constexpr int kThreads = 1024;
/* 16-byte loads under way in each thread: 64 KiB in a multiprocessor. tanh, and on Turing the conversions of bf16, need the
   registers that two of them take. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <bool kSoftcap>
constexpr int kUnrollOf = 2;
#else
template <bool kSoftcap>
constexpr int kUnrollOf = kSoftcap ? 2 : 4;
#endif

/* Where a row is read 16 bytes at a time: elements [head, head + packs * kWide). The rest, fewer than 2 * kWide elements, are
   `loose`, one for each of the first threads. */
template <class T>
struct Row {
  static constexpr int kWide = 16 / sizeof(T);
  int v, head, packs;

  __device__ Row(const T* x, int v) : v(v) {
    const int ahead = static_cast<int>((16 - reinterpret_cast<uintptr_t>(x) % 16) % 16 / sizeof(T));
    head = ahead < v ? ahead : v;
    packs = (v - head) / kWide;
  }
  __device__ bool has_loose() const { return static_cast<int>(threadIdx.x) < v - packs * kWide; }
  __device__ int loose() const {
    const int i = threadIdx.x;
    return i < head ? i : i + packs * kWide;
  }
};

template <class T, bool kSoftcap>
__device__ Running row_total(const Row<T>& row, const T* x, LogitTransform f) {
  using P = Pack<T, Row<T>::kWide>;
  constexpr int kWide = Row<T>::kWide;
  constexpr int kUnroll = kUnrollOf<kSoftcap>;
  const P* packs = reinterpret_cast<const P*>(x + row.head);
  Running running = Running::none();
  for (int i = threadIdx.x; i < row.packs; i += kThreads * kUnroll) {
    P value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      if (i + u * kThreads < row.packs) value[u] = packs[i + u * kThreads];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      if (i + u * kThreads >= row.packs) break;
      float z[kWide];
#pragma unroll
      for (int k = 0; k < kWide; k++) z[k] = transformed<kSoftcap>(to_float(value[u].element[k]), f);
      running.add(z);
    }
  }
  if (row.has_loose()) {
    const float z[1] = {transformed<kSoftcap>(to_float(x[row.loose()]), f)};
    running.add(z);
  }
  return block_total<kThreads>(running);
}

/* dx may be x: each thread reads an element before it writes it. */
template <class T, bool kSoftcap>
__device__ void write_gradient(const Row<T>& row, T* dx, const T* x, LogitTransform f, Running total, float grad_scale, int label) {
  using P = Pack<T, Row<T>::kWide>;
  constexpr int kWide = Row<T>::kWide, kUnroll = kUnrollOf<kSoftcap>;
  const P* in = reinterpret_cast<const P*>(x + row.head);
  P* out = reinterpret_cast<P*>(dx + row.head);
  const float inverse = 1.0f / total.sum;
  for (int i = threadIdx.x; i < row.packs; i += kThreads * kUnroll) {
    P value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      if (i + u * kThreads < row.packs) value[u] = in[i + u * kThreads];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; u++) {
      if (i + u * kThreads >= row.packs) break;
      const int first = row.head + (i + u * kThreads) * kWide;
#pragma unroll
      for (int k = 0; k < kWide; k++) {
        const float logit = to_float(value[u].element[k]);
        value[u].element[k] = from_float<T>(gradient<kSoftcap>(logit, f, total.max, inverse, grad_scale, first + k == label));
      }
      out[i + u * kThreads] = value[u];
    }
  }
  if (row.has_loose()) {
    const int j = row.loose();
    dx[j] = from_float<T>(gradient<kSoftcap>(to_float(x[j]), f, total.max, inverse, grad_scale, j == label));
  }
}

/* The row of a token that is not learned. */
template <class T>
__device__ void write_zeros(const Row<T>& row, T* dx) {
  using P = Pack<T, Row<T>::kWide>;
  P* out = reinterpret_cast<P*>(dx + row.head);
  for (int i = threadIdx.x; i < row.packs; i += kThreads) out[i] = P{};
  if (row.has_loose()) dx[row.loose()] = from_float<T>(0);
}

template <class T, bool kSoftcap>
__global__ void __launch_bounds__(kThreads) row_kernel(const LogitRows<T> rows) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * rows.v;
  const T* x = rows.logits + begin;
  const int label = rows.labels[blockIdx.x];
  const Row<T> row(x, rows.v);
  if (label < 0 || label >= rows.v) {
    if (threadIdx.x == 0) {
      rows.loss[blockIdx.x] = 0;
      if (label >= rows.v) *rows.fault = kFaultLabel;
    }
    if (rows.dlogits != nullptr) write_zeros(row, rows.dlogits + begin);
    return;
  }
  const float of_label = transformed<kSoftcap>(to_float(x[label]), rows.transform); /* before the barrier in row_total */
  const Running total = row_total<T, kSoftcap>(row, x, rows.transform);
  if (threadIdx.x == 0) rows.loss[blockIdx.x] = (total.max - of_label) + logf(total.sum);
  if (rows.dlogits == nullptr) return;
  write_gradient<T, kSoftcap>(row, rows.dlogits + begin, x, rows.transform, total, *rows.grad_scale, label);
}

/* A loss alone is one pass: there is nothing to keep for a second one, and forming clusters takes longer than it saves from
   rows of 128 KiB on. H100, 2048 x 128256 bf16: 2680 GB/s against 2300; 2048 x 49152: 2050 against 2200. */
constexpr int64_t kLongRow = 128 * 1024;

template <class T>
void launch(oribi_ctx* ctx, const LogitRows<T>& rows) {
  const bool one_pass = rows.dlogits == nullptr && rows.v * static_cast<int64_t>(sizeof(T)) >= kLongRow;
  if (!one_pass && launch_clusters(ctx, rows)) return;
  const auto kernel = rows.transform.softcap != 0 ? row_kernel<T, true> : row_kernel<T, false>;
  kernel<<<static_cast<unsigned>(rows.n), kThreads, 0, stream_of(ctx)>>>(rows);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_cross_entropy(oribi_ctx* ctx, void* dlogits, float* loss, const void* logits,
                                            const int32_t* labels, const float* grad_scale, int64_t n, int64_t v,
                                            float logit_scale, float softcap, oribi_dtype t) {
  const char* const function = "oribi_cross_entropy";
  Check check(ctx, function);
  check.size("n", n).size("v", v, 1).elements("logits", n, v).dtype("t", t);
  check_logits(check, logit_scale, softcap);
  check.pointer("loss", loss, n).pointer("logits", logits, n).pointer("labels", labels, n);
  check.pointer("grad_scale", grad_scale, dlogits == nullptr ? 0 : n);
  if (!check.ok() || n == 0) return check.status();
  if (v > kMaxVocabulary || n > INT32_MAX) {
    return fail(ctx, ORIBI_UNSUPPORTED, "%s: n = %lld, v = %lld; at most 2147483647 and %lld on a GPU", function,
                static_cast<long long>(n), static_cast<long long>(v), static_cast<long long>(kMaxVocabulary));
  }
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(t, 1, [&](auto type, auto) {
    using T = decltype(type);
    launch(ctx, LogitRows<T>{static_cast<T*>(dlogits), loss, static_cast<const T*>(logits), labels, grad_scale, n,
                             static_cast<int>(v), {logit_scale, softcap}, fault_of(ctx)});
  });
  return launch_status(ctx, function);
}
