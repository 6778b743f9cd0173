/*
 * Math        cast: y = x;  cast_rows: y = (accumulate ? y : 0) + x;  add: y = a + b;  fill: y = value
 *             scale: y = x * scale, then softcap * tanh(y / softcap)
 *             gather_rows: y[i,:] = x[index[i],:];  scatter_rows: y[index[i],:] = x[i,:]
 * Shapes      x, y, a, b (count), or (rows, cols) with row strides; index (n)
 * Layout      any size; rows may be strided. 16 bytes at a time where pointers and strides allow it
 * Precision   storage fp32, bf16 or fp16; sums in fp32, rounded once; gather and scatter copy bits
 * Saved       nothing
 * Writes      y = ; cast_rows may y +=. An index out of range: gather writes a row of zeros, scatter no row
 * Determinism bit-exact: every element is written once
 * Limits      as many blocks as a grid holds; more returns UNSUPPORTED
 */
#include "cuda/copy_rows.cuh"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* The wider of the two types moves 16 bytes an access, so that the accesses of a warp are contiguous on both sides. */
template <class Y, class X>
constexpr int cast_width() {
  return kAccess / static_cast<int>(sizeof(Y) > sizeof(X) ? sizeof(Y) : sizeof(X));
}

template <class Y, class X, int kW>
struct Cast {
  static constexpr int kWidth = kW;
  using Loaded = Pack<X, kWidth>;
  Y* y;
  const X* x;

  __device__ Loaded load(int64_t i) const { return reinterpret_cast<const Loaded*>(x)[i]; }
  __device__ void store(int64_t i, const Loaded& in) const {
    Pack<Y, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; k++) out.element[k] = from_float<Y>(to_float(in.element[k]));
    reinterpret_cast<Pack<Y, kWidth>*>(y)[i] = out;
  }
  __device__ void one(int64_t i) const { y[i] = from_float<Y>(to_float(x[i])); }
};

template <class T, int kW>
struct Add {
  static constexpr int kWidth = kW;
  struct Loaded {
    Pack<T, kWidth> a, b;
  };
  T* y;
  const T *a, *b;

  __device__ static T sum(T a, T b) { return from_float<T>(to_float(a) + to_float(b)); }
  __device__ Loaded load(int64_t i) const {
    return {reinterpret_cast<const Pack<T, kWidth>*>(a)[i], reinterpret_cast<const Pack<T, kWidth>*>(b)[i]};
  }
  __device__ void store(int64_t i, const Loaded& in) const {
    Pack<T, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; k++) out.element[k] = sum(in.a.element[k], in.b.element[k]);
    reinterpret_cast<Pack<T, kWidth>*>(y)[i] = out;
  }
  __device__ void one(int64_t i) const { y[i] = sum(a[i], b[i]); }
};

template <class T, int kW>
struct Scale {
  static constexpr int kWidth = kW;
  using Loaded = Pack<T, kWidth>;
  T* y;
  const T* x;
  float factor, softcap;

  __device__ T scaled(T x) const {
    const float z = to_float(x) * factor;
    return from_float<T>(softcap != 0 ? softcap * tanhf(z / softcap) : z);
  }
  __device__ Loaded load(int64_t i) const { return reinterpret_cast<const Loaded*>(x)[i]; }
  __device__ void store(int64_t i, Loaded in) const {
#pragma unroll
    for (int k = 0; k < kWidth; k++) in.element[k] = scaled(in.element[k]);
    reinterpret_cast<Loaded*>(y)[i] = in;
  }
  __device__ void one(int64_t i) const { y[i] = scaled(x[i]); }
};

template <class T, int kW>
struct Fill {
  static constexpr int kWidth = kW;
  struct Loaded {};
  T* y;
  float value;

  __device__ Loaded load(int64_t) const { return {}; }
  __device__ void store(int64_t i, Loaded) const {
    Pack<T, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; k++) out.element[k] = from_float<T>(value);
    reinterpret_cast<Pack<T, kWidth>*>(y)[i] = out;
  }
  __device__ void one(int64_t i) const { y[i] = from_float<T>(value); }
};

constexpr int kRowUnroll = 4;

template <class Y, class X, int kWidth>
__global__ void cast_rows_kernel(Y* y, const X* x, int64_t rows, int64_t packs, int64_t ldy, int64_t ldx, bool accumulate) {
  const int64_t row = grid_row();
  if (row >= rows) return;
  const Pack<X, kWidth>* in = reinterpret_cast<const Pack<X, kWidth>*>(x + row * ldx);
  Pack<Y, kWidth>* out = reinterpret_cast<Pack<Y, kWidth>*>(y + row * ldy);
#pragma unroll kRowUnroll
  for (int64_t i = grid_first(); i < packs; i += grid_step()) {
    const Pack<X, kWidth> value = in[i];
    Pack<Y, kWidth> result{};
    if (accumulate) result = out[i];
#pragma unroll
    for (int k = 0; k < kWidth; k++) {
      const float v = to_float(value.element[k]);
      result.element[k] = from_float<Y>(accumulate ? to_float(result.element[k]) + v : v);
    }
    out[i] = result;
  }
}

template <class Y, class X, int kWidth>
oribi_status cast_rows(oribi_ctx* ctx, Y* y, const X* x, int64_t rows, int64_t cols, int64_t ldy, int64_t ldx,
                       bool accumulate) {
  const char* const function = "oribi_cast_rows";
  const RowGrid grid(rows, cols / kWidth, kRowUnroll);
  if (!fits_grid(grid.row_blocks)) return too_large(ctx, function, grid.row_blocks);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  cast_rows_kernel<Y, X, kWidth><<<grid.grid(), grid.block, 0, stream_of(ctx)>>>(y, x, rows, cols / kWidth, ldy, ldx, accumulate);
  return launch_status(ctx, function);
}

/* Calls f with a value of each storage type, y's and x's; both were checked before. */
template <class F>
oribi_status dispatch_two(oribi_dtype ty, oribi_dtype tx, F&& f) {
  oribi_status status = ORIBI_OK;
  dispatch_pack(ty, 1, [&](auto to, auto) { dispatch_pack(tx, 1, [&](auto from, auto) { status = f(to, from); }); });
  return status;
}

/* What gather and scatter check alike; the values of index are the kernel's to check. */
oribi_status check_rows(oribi_ctx* ctx, const char* function, const void* y, const void* x, const int32_t* index, int64_t n,
                        int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  Check check(ctx, function);
  check.size("n", n).size("rows", rows).size("c", c).size("ldy", ldy, c).size("ldx", ldx, c).dtype("t", t);
  check.elements("y", n > rows ? n : rows, ldy).elements("x", n > rows ? n : rows, ldx);
  check.pointer("y", y, n * c).pointer("x", x, n * c).pointer("index", index, n);
  return check.status();
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_cast(oribi_ctx* ctx, void* y, const void* x, int64_t count, oribi_dtype ty, oribi_dtype tx) {
  const char* const function = "oribi_cast";
  Check check(ctx, function);
  check.size("count", count).elements("x", count, 1).dtype("ty", ty).dtype("tx", tx);
  check.pointer("y", y, count).pointer("x", x, count);
  if (!check.ok()) return check.status();
  return dispatch_two(ty, tx, [&](auto to, auto from) {
    using Y = decltype(to);
    using X = decltype(from);
    Y* out = static_cast<Y*>(y);
    const X* in = static_cast<const X*>(x);
    if (aligned({y, x})) return launch_map(ctx, function, Cast<Y, X, cast_width<Y, X>()>{out, in}, count);
    return launch_map(ctx, function, Cast<Y, X, 1>{out, in}, count);
  });
}

extern "C" oribi_status oribi_cast_rows(oribi_ctx* ctx, void* y, const void* x, int64_t rows, int64_t cols, int64_t ldy,
                                        int64_t ldx, oribi_dtype ty, oribi_dtype tx, int32_t accumulate) {
  Check check(ctx, "oribi_cast_rows");
  check.size("rows", rows).size("cols", cols).size("ldy", ldy, cols).size("ldx", ldx, cols).dtype("ty", ty).dtype("tx", tx);
  check.elements("y", rows, ldy).elements("x", rows, ldx).pointer("y", y, rows * cols).pointer("x", x, rows * cols);
  if (!check.ok() || rows == 0 || cols == 0) return check.status();
  return dispatch_two(ty, tx, [&](auto to, auto from) {
    using Y = decltype(to);
    using X = decltype(from);
    constexpr int kWide = cast_width<Y, X>();
    Y* out = static_cast<Y*>(y);
    const X* in = static_cast<const X*>(x);
    if ((cols | ldy | ldx) % kWide == 0 && aligned({y, x})) {
      return cast_rows<Y, X, kWide>(ctx, out, in, rows, cols, ldy, ldx, accumulate != 0);
    }
    return cast_rows<Y, X, 1>(ctx, out, in, rows, cols, ldy, ldx, accumulate != 0);
  });
}

extern "C" oribi_status oribi_add(oribi_ctx* ctx, void* y, const void* a, const void* b, int64_t count, oribi_dtype t) {
  const char* const function = "oribi_add";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t);
  check.pointer("y", y, count).pointer("a", a, count).pointer("b", b, count);
  if (!check.ok()) return check.status();
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y, a, b}) ? 0 : 1, [&](auto type, auto width) {
    using T = decltype(type);
    const Add<T, decltype(width)::value> op{static_cast<T*>(y), static_cast<const T*>(a), static_cast<const T*>(b)};
    status = launch_map(ctx, function, op, count);
  });
  return status;
}

extern "C" oribi_status oribi_scale(oribi_ctx* ctx, void* y, const void* x, int64_t count, float factor, float softcap,
                                    oribi_dtype t) {
  const char* const function = "oribi_scale";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count).pointer("x", x, count);
  check.that(softcap >= 0, "softcap must not be negative, found %g", static_cast<double>(softcap));
  if (!check.ok()) return check.status();
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y, x}) ? 0 : 1, [&](auto type, auto width) {
    using T = decltype(type);
    const Scale<T, decltype(width)::value> op{static_cast<T*>(y), static_cast<const T*>(x), factor, softcap};
    status = launch_map(ctx, function, op, count);
  });
  return status;
}

extern "C" oribi_status oribi_fill(oribi_ctx* ctx, void* y, int64_t count, float value, oribi_dtype t) {
  const char* const function = "oribi_fill";
  Check check(ctx, function);
  check.size("count", count).elements("y", count, 1).dtype("t", t).pointer("y", y, count);
  if (!check.ok()) return check.status();
  oribi_status status = ORIBI_OK;
  dispatch_pack(t, aligned({y}) ? 0 : 1, [&](auto type, auto width) {
    using T = decltype(type);
    status = launch_map(ctx, function, Fill<T, decltype(width)::value>{static_cast<T*>(y), value}, count);
  });
  return status;
}

extern "C" oribi_status oribi_gather_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                          int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  const char* const function = "oribi_gather_rows";
  const oribi_status status = check_rows(ctx, function, y, x, index, n, rows, c, ldy, ldx, t);
  if (status != ORIBI_OK) return status;
  const int64_t e = size_in_bytes(t);
  return copy_rows<false>(ctx, {function, y, x, index, n, rows, c * e, ldy * e, ldx * e, kFaultGatherIndex});
}

extern "C" oribi_status oribi_scatter_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                           int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t) {
  const char* const function = "oribi_scatter_rows";
  const oribi_status status = check_rows(ctx, function, y, x, index, n, rows, c, ldy, ldx, t);
  if (status != ORIBI_OK) return status;
  const int64_t e = size_in_bytes(t);
  return copy_rows<true>(ctx, {function, y, x, index, n, rows, c * e, ldy * e, ldx * e, kFaultScatterIndex});
}
