/*
 * Math        forward: y[i,:] = table[ids[i],:];  backward: dtable[ids[i],:] += dy[i,:]
 * Shapes      y, dy (N,C)  table, dtable (V,C)  ids (N)
 * Layout      row-major, any C
 * Precision   forward copies bits; backward adds in fp32 whatever the storage of dy
 * Saved       nothing
 * Writes      y =, dtable +=
 * Determinism bit-exact for any number of threads: each column is summed in the order of the tokens
 * Limits      none; ids are checked before anything is written
 */
#include <cstring>

#include "common/context.h"
#include "common/dtype.h"
#include "cpu/parallel.h"

namespace oribi {
namespace {

/* Columns that one thread sums for all tokens: four cache lines of dtable, and nine pieces of work at C = 576. */
constexpr int64_t kColumns = 64;

template <class T>
void backward(const oribi_ctx* ctx, float* dtable, const T* dy, const int32_t* ids, int64_t n, int64_t c) {
  parallel_ranges(ctx, c, kColumns, [=](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < n; row++) {
      float* out = dtable + ids[row] * c;
      const T* in = dy + row * c;
#pragma omp simd
      for (int64_t i = begin; i < end; i++) out[i] += to_float(in[i]);
    }
  });
}

Check& check_ids(Check& check, const int32_t* ids, int64_t n, int64_t v) {
  for (int64_t i = 0; check.ok() && i < n; i++) {
    check.that(ids[i] >= 0 && ids[i] < v, "ids[%lld] is %d, expected 0 to %lld", static_cast<long long>(i), ids[i],
               static_cast<long long>(v) - 1);
  }
  return check;
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_embedding_forward(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                                int64_t c, int64_t v, oribi_dtype t) {
  Check check(ctx, "oribi_embedding_forward");
  check.size("n", n).size("c", c, 1).size("v", v, 1).elements("y", n, c).elements("table", v, c).dtype("t", t);
  check.pointer("y", y, n * c).pointer("table", table, n * c).pointer("ids", ids, n);
  if (!check_ids(check, ids, n, v).ok()) return check.status();
  const int64_t row_bytes = c * size_of(t);
  parallel_ranges(ctx, n, rows_per_chunk(c), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      std::memcpy(static_cast<char*>(y) + row * row_bytes, static_cast<const char*>(table) + ids[row] * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  });
  return ORIBI_OK;
}

extern "C" oribi_status oribi_embedding_backward(oribi_ctx* ctx, float* dtable, const void* dy, const int32_t* ids,
                                                 int64_t n, int64_t c, int64_t v, oribi_dtype t) {
  Check check(ctx, "oribi_embedding_backward");
  check.size("n", n).size("c", c, 1).size("v", v, 1).elements("dy", n, c).elements("dtable", v, c).dtype("t", t);
  check.pointer("dtable", dtable, n * c).pointer("dy", dy, n * c).pointer("ids", ids, n);
  if (!check_ids(check, ids, n, v).ok()) return check.status();
  dispatch(t, [&](auto type) { backward(ctx, dtable, static_cast<const decltype(type)*>(dy), ids, n, c); });
  return ORIBI_OK;
}
