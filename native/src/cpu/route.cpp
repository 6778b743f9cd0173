/*
 * Math        route: pairs p = token*k + j sorted by expert[p], then by p:  pair[i] = p, token[i] = p / k, row[p] = i
 *             unroute: y[token,:] = sum over j of x[row[token*k + j],:]
 * Shapes      expert, pair, token, row (N*k)  offsets (E+1)  x (N*k,C)  y (N,C)
 * Layout      row-major, any C
 * Precision   unroute: storage fp32, bf16 or fp16; the sum fp32 in the order of j, rounded once
 * Saved       what route makes is what the other kernels read, both ways
 * Writes      offsets =, pair =, token =, row =, y = or +=
 * Determinism bit-exact for any number of threads: a stable sort
 * Limits      E <= 1024, N*k < 2^31
 */
#include <cstring>

#include "common/dtype.h"
#include "common/experts.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

/* A counting sort by one thread: N*k is thousands, and each pair costs a few cycles. */
void sort(int32_t* offsets, int32_t* pair, int32_t* token, int32_t* row, const int32_t* expert, int64_t pairs, int64_t k,
          int64_t experts) {
  int32_t next[kMaxExperts];
  std::memset(offsets, 0, static_cast<size_t>(experts + 1) * sizeof *offsets);
  for (int64_t p = 0; p < pairs; p++) offsets[expert[p] + 1]++;
  for (int64_t e = 0; e < experts; e++) {
    next[e] = offsets[e];
    offsets[e + 1] += offsets[e];
  }
  for (int64_t p = 0; p < pairs; p++) {
    const int32_t i = next[expert[p]]++;
    pair[i] = static_cast<int32_t>(p);
    token[i] = static_cast<int32_t>(p / k);
    row[p] = i;
  }
}

/* Columns that are summed at a time, in the first cache. */
constexpr int64_t kColumns = 512;

template <class T>
void unroute(const oribi_ctx* ctx, T* y, const T* x, const int32_t* row, int64_t n, int64_t k, int64_t c, bool accumulate) {
  parallel_ranges(ctx, n, rows_per_chunk(c * k), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      for (int64_t first = 0; first < c; first += kColumns) {
        const int64_t count = std::min(kColumns, c - first);
        T* out = y + i * c + first;
        float sum[kColumns] = {};
        for (int64_t j = 0; j < k; j++) {
          const T* in = x + row[i * k + j] * c + first;
#pragma omp simd
          for (int64_t m = 0; m < count; m++) sum[m] += to_float(in[m]);
        }
        for (int64_t m = 0; m < count; m++) out[m] = from_float<T>((accumulate ? to_float(out[m]) : 0.0f) + sum[m]);
      }
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_route(oribi_ctx* ctx, int32_t* offsets, int32_t* pair, int32_t* token, int32_t* row,
                                    const int32_t* expert, void*, int64_t n, int64_t k, int64_t experts) {
  Check check(ctx, "oribi_route");
  if (!check_route(check, n, k, experts)) return check.status();
  check.pointer("offsets", offsets).pointer("pair", pair, n).pointer("token", token, n).pointer("row", row, n);
  check.pointer("expert", expert, n);
  for (int64_t i = 0; check.ok() && i < n * k; i++) {
    check.that(expert[i] >= 0 && expert[i] < experts, "expert[%lld] is %d, expected 0 to %lld", static_cast<long long>(i),
               expert[i], static_cast<long long>(experts) - 1);
  }
  if (!check.ok()) return check.status();
  sort(offsets, pair, token, row, expert, n * k, k, experts);
  return ORIBI_OK;
}

extern "C" int64_t oribi_route_workspace(int64_t n, int64_t k, int64_t experts) { return route_workspace(n, k, experts); }

extern "C" oribi_status oribi_unroute(oribi_ctx* ctx, void* y, const void* x, const int32_t* row, int64_t n, int64_t k,
                                      int64_t c, int32_t accumulate, oribi_dtype t) {
  Check check(ctx, "oribi_unroute");
  check.size("n", n).size("k", k, 1).size("c", c, 1).dtype("t", t).elements("x", n, k).elements("x", n * k, c);
  check.pointer("y", y, n).pointer("x", x, n).pointer("row", row, n);
  for (int64_t i = 0; check.ok() && i < n * k; i++) {
    check.that(row[i] >= 0 && row[i] < n * k, "row[%lld] is %d, expected 0 to %lld", static_cast<long long>(i), row[i],
               static_cast<long long>(n * k) - 1);
  }
  if (!check.ok()) return check.status();
  dispatch(t, [&](auto type) {
    using T = decltype(type);
    unroute(ctx, static_cast<T*>(y), static_cast<const T*>(x), row, n, k, c, accumulate != 0);
  });
  return ORIBI_OK;
}
