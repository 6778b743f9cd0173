#include "fp8_ref.h"

#include "block_weights.h"

#include <algorithm>

using namespace check;
using Values = std::vector<double>;

namespace {

/* A matrix in e4m3 in the device's memory. */
struct Quantized {
  int64_t rows, cols;
  Plain<uint8_t> codes;
  Plain<float> scale;

  Quantized(int64_t r, int64_t c) : rows(r), cols(c), codes(r * c + kGuard, 0x55), scale(r + kGuard, 7.0f) {}
  oribi_fp8 q() { return {codes.data(), scale.data()}; }
  bool operator==(const Quantized& other) const {
    return codes.values() == other.codes.values() && std::memcmp(scale.values().data(), other.scale.values().data(), 4 * rows) == 0;
  }
  static constexpr int64_t kGuard = 16;
};

template <class T>
Values wide(const std::vector<T>& values, size_t count) {
  return Values(values.begin(), values.begin() + count);
}

void check_codes(const Quantized& actual, const reference::Fp8& expected) {
  compare_within("codes", wide(actual.codes.values(), expected.codes.size()), wide(expected.codes, expected.codes.size()), 0);
  compare_within("scale", wide(actual.scale.values(), expected.scale.size()), wide(expected.scale, expected.scale.size()), 0);
  const std::vector<uint8_t> codes = actual.codes.values();
  const std::vector<float> scale = actual.scale.values();
  for (int64_t i = 0; i < Quantized::kGuard; i++) {
    CHECK(codes[expected.codes.size() + i] == 0x55 && scale[expected.scale.size() + i] == 7.0f);
  }
}

/* x with ld elements from one row to the next, NaN between the rows: what lies there must not be looked at. */
Values strided(const Values& x, Matrix m, int64_t ld) {
  Values all(m.rows * ld, NAN);
  for (int64_t r = 0; r < m.rows; r++) std::copy_n(x.begin() + r * m.cols, m.cols, all.begin() + r * ld);
  return all;
}

void quantize(oribi_ctx* ctx, Quantized& out, Array& x, Matrix m, int64_t ld, oribi_dtype t, bool transposed) {
  const oribi_fp8 q = out.q();
  if (transposed) {
    CHECK_OK(ctx, oribi_fp8_quantize_transposed(ctx, &q, x.data(), m.rows, m.cols, ld, t));
  } else {
    CHECK_OK(ctx, oribi_fp8_quantize(ctx, &q, x.data(), m.rows, m.cols, ld, t));
  }
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
}

/* One number; rows that fill no pack, no warp; several tiles and parts of them; rows longer than what threads hold, in fp32 too. */
constexpr Matrix kMatrices[] = {{1, 1}, {3, 7}, {13, 192}, {257, 64}, {113, 576}, {130, 1023}, {5, 14336}, {2, 28672}, {3, 33000}};

}  // namespace

TEST(rows_and_columns) {
  for (oribi_dtype t : kDtypes) {
    for (Matrix m : kMatrices) {
      const Values values = block_weights(m, t);
      const std::string name = where;
      const reference::Fp8 by_rows = reference::fp8_quantize(values, m.rows, m.cols);
      const reference::Fp8 by_columns = reference::fp8_quantize(reference::transposed(values, m.rows, m.cols), m.cols, m.rows);
      Context ctx(2);
      for (int64_t ld : {m.cols, m.cols + 5, m.cols + 64}) {
        where = name + " ld " + std::to_string(ld);
        Array x(strided(values, m, ld), t);
        Quantized rows(m.rows, m.cols), columns(m.cols, m.rows);
        quantize(ctx, rows, x, m, ld, t, false);
        check_codes(rows, by_rows);
        quantize(ctx, columns, x, m, ld, t, true);
        check_codes(columns, by_columns);
      }
    }
  }
}

/* With 448 in each row the scale is 1: every number of e4m3, every middle between two, and what lies next to it in fp32. */
TEST(every_boundary) {
  where = "boundaries";
  Values x = {448};
  for (int code = 0; code < 0x7e; code++) {
    const double low = reference::fp8_value(static_cast<uint8_t>(code)), high = reference::fp8_value(static_cast<uint8_t>(code + 1));
    const float middle = static_cast<float>((low + high) / 2);
    for (double value : {low, static_cast<double>(std::nextafterf(middle, 0)), static_cast<double>(middle),
                         static_cast<double>(std::nextafterf(middle, 448))}) {
      x.push_back(value);
      x.push_back(-value);
    }
  }
  const Matrix m{1, static_cast<int64_t>(x.size())};
  Context ctx;
  Array array(x, ORIBI_F32);
  Quantized rows(m.rows, m.cols), columns(m.rows, m.cols);
  quantize(ctx, rows, array, m, m.cols, ORIBI_F32, false);
  CHECK(rows.scale.get(0) == 1);
  check_codes(rows, reference::fp8_quantize(x, 1, m.cols));
  quantize(ctx, columns, array, {m.cols, 1}, 1, ORIBI_F32, true); /* a column that becomes a row */
  CHECK(columns == rows);
}

/* Rows in the middle of a matrix are a matrix of their own, and so are columns of one with a stride. */
TEST(slices) {
  where = "slices";
  const Matrix m{113, 576};
  Array x(block_weights(m, ORIBI_BF16), ORIBI_BF16);
  Context ctx;
  Quantized whole(m.rows, m.cols), sliced(m.rows, m.cols);
  quantize(ctx, whole, x, m, m.cols, ORIBI_BF16, false);
  const oribi_fp8 q = sliced.q();
  const uint16_t* in = static_cast<const uint16_t*>(x.data());
  for (int64_t begin = 0; begin < m.rows; begin += 17) {
    const oribi_fp8 part = {q.codes + begin * m.cols, q.scale + begin};
    CHECK_OK(ctx, oribi_fp8_quantize(ctx, &part, in + begin * m.cols, std::min<int64_t>(17, m.rows - begin), m.cols, m.cols, ORIBI_BF16));
  }
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  CHECK(sliced == whole);
  for (int64_t first : {1, 8}) { /* columns that do and do not begin at 16 bytes */
    Values part;
    for (int64_t r = 0; r < m.rows; r++) {
      for (int64_t c = first; c < first + 64; c++) part.push_back(x.get(r * m.cols + c));
    }
    Quantized columns(m.rows, 64);
    const oribi_fp8 to = columns.q();
    CHECK_OK(ctx, oribi_fp8_quantize(ctx, &to, static_cast<const uint16_t*>(x.data()) + first, m.rows, 64, m.cols, ORIBI_BF16));
    CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
    check_codes(columns, reference::fp8_quantize(part, m.rows, 64));
  }
}

/* The error is bounded by half a step, and on normal numbers it is what the derivation says: 2.65 % of the rms. */
TEST(size_of_the_error) {
  where = "size of the error";
  const Matrix m{256, 4096};
  Random random(1);
  const Values x = rounded(random.normals(m.rows * m.cols, 0, 0.02), ORIBI_F32);
  Array array(x, ORIBI_F32);
  Context ctx;
  Quantized actual(m.rows, m.cols);
  quantize(ctx, actual, array, m, m.cols, ORIBI_F32, false);
  const std::vector<float> scale = actual.scale.values();
  const std::vector<uint8_t> codes = actual.codes.values();
  double lost = 0, all = 0, excess = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double step = scale[i / m.cols], difference = step * reference::fp8_value(codes[i]) - x[i];
    excess = std::fmax(excess, std::fabs(difference) / std::fmax(std::ldexp(std::fabs(x[i]), -4), step * 0x1p-10));
    lost += difference * difference;
    all += x[i] * x[i];
  }
  CHECK(excess <= 1 + 1e-6);
  compare_within("relative error", {std::sqrt(lost / all)}, {0.0265}, 0.0006);
}

/* Zeros, the smallest numbers, the largest, infinity and NaN: each in its own row or column, and the others as ever. */
TEST(odd_rows) {
  for (oribi_dtype t : kDtypes) {
    Random random(3);
    Values x = rounded(random.normals(64 * 8), t);
    const double tiny = t == ORIBI_F16 ? 0x1p-24 : t == ORIBI_BF16 ? 0x1p-133 : 0x1p-149;
    const double huge = t == ORIBI_F16 ? 65504 : t == ORIBI_BF16 ? 0x1.fep127 : 0x1.fffffep127;
    for (int i = 0; i < 64; i++) {
      x[64 + i] = i % 3 == 0 ? -0.0 : 0.0;
      x[128 + i] = (i - 32) * tiny;
      x[320 + i] = i % 2 == 0 ? huge : -huge / 2;
    }
    x[192 + 5] = NAN;
    x[192 + 6] = 3; /* after the NaN */
    x[256 + 63] = -INFINITY;
    for (bool transposed : {false, true}) {
      where = std::string("odd ") + name_of(t) + (transposed ? " transposed" : "");
      Context ctx;
      Array array(transposed ? reference::transposed(x, 8, 64) : x, t);
      Quantized actual(8, 64);
      quantize(ctx, actual, array, transposed ? Matrix{64, 8} : Matrix{8, 64}, transposed ? 8 : 64, t, transposed);
      check_codes(actual, reference::fp8_quantize(x, 8, 64));
      for (int i = 0; i < 64; i++) {
        CHECK((actual.codes.get(64 + i) & 0x7f) == 0 && actual.codes.get(192 + i) == 0x7f && actual.codes.get(256 + i) == 0x7f);
      }
      CHECK(actual.scale.get(1) == 0x1p-126f && std::isnan(actual.scale.get(3)) && std::isnan(actual.scale.get(4)));
      CHECK(actual.codes.get(320) == 0x7e && std::isfinite(actual.scale.get(5)));
    }
  }
}

TEST(same_bits_every_time) {
  where = "same bits";
  const Matrix m{257, 576};
  Array x(block_weights(m, ORIBI_BF16), ORIBI_BF16);
  Quantized rows(m.rows, m.cols), columns(m.cols, m.rows);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Quantized rows_again(m.rows, m.cols), columns_again(m.cols, m.rows);
    quantize(ctx, threads == 1 ? rows : rows_again, x, m, m.cols, ORIBI_BF16, false);
    quantize(ctx, threads == 1 ? columns : columns_again, x, m, m.cols, ORIBI_BF16, true);
    CHECK(threads == 1 || (rows_again == rows && columns_again == columns));
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array x(128, ORIBI_F32, 1);
  Quantized quantized(2, 64);
  const oribi_fp8 q = quantized.q();
  oribi_fp8 broken = q;
  broken.scale = nullptr;
  CHECK_OK(ctx, oribi_fp8_quantize(ctx, &q, nullptr, 0, 64, 64, ORIBI_F32));
  CHECK_OK(ctx, oribi_fp8_quantize_transposed(ctx, &q, nullptr, 2, 0, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q.scale is NULL", oribi_fp8_quantize(ctx, &broken, x.data(), 2, 64, 64, ORIBI_F32));
  broken = q;
  broken.codes = nullptr;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q.codes is NULL",
               oribi_fp8_quantize_transposed(ctx, &broken, x.data(), 2, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q is NULL", oribi_fp8_quantize(ctx, nullptr, x.data(), 2, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "x is NULL", oribi_fp8_quantize(ctx, &q, nullptr, 2, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rows must be at least 0, found -1", oribi_fp8_quantize(ctx, &q, x.data(), -1, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld must be at least cols = 64, found 63",
               oribi_fp8_quantize_transposed(ctx, &q, x.data(), 2, 64, 63, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9", oribi_fp8_quantize(ctx, &q, x.data(), 2, 64, 64, static_cast<oribi_dtype>(9)));
}
