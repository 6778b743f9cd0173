#include "int8_ref.h"

#include "block_weights.h"

#include <algorithm>

using namespace check;
using Values = std::vector<double>;

namespace {

/* A matrix in 8 bits in the device's memory. */
struct Quantized {
  int64_t rows, cols, blocks;
  Plain<int8_t> codes;
  Plain<float> scale;
  Array lost, all;

  Quantized(int64_t r, int64_t c)
      : rows(r), cols(c), blocks(r * c / 64), codes(r * c, 0x55), scale(blocks, 7.0f), lost(blocks, ORIBI_F32, NAN), all(blocks, ORIBI_F32, NAN) {}
  oribi_int8 q() { return {codes.data(), scale.data()}; }
  bool operator==(const Quantized& other) const {
    return codes.values() == other.codes.values() && scale.values() == other.scale.values() && lost.same_bits(other.lost) &&
           all.same_bits(other.all);
  }
};

void quantize(oribi_ctx* ctx, Quantized& out, Array& w, oribi_dtype t) {
  const oribi_int8 q = out.q();
  CHECK_OK(ctx, oribi_int8_quantize(ctx, &q, out.lost.f32(), out.all.f32(), w.data(), out.rows, out.cols, t));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
}

template <class T>
Values wide(const std::vector<T>& values) {
  return Values(values.begin(), values.end());
}

reference::Int8 check_codes(const Quantized& actual, const Values& w) {
  reference::Int8 expected = reference::int8_quantize(w);
  compare_within("codes", wide(actual.codes.values()), wide(expected.codes), 0);
  compare_within("scale", wide(actual.scale.values()), wide(expected.scale), 0);
  return expected;
}

/* One block; a last warp that is not full; an odd number of rows; widths of real heads. */
constexpr Matrix kMatrices[] = {{1, 64}, {3, 64}, {13, 192}, {257, 64}, {113, 576}, {5, 2048}, {67, 4096}};

}  // namespace

TEST(quantize_and_dequantize) {
  for (oribi_dtype t : kDtypes) {
    for (Matrix m : kMatrices) {
      const Values values = block_weights(m, t);
      Context ctx(2);
      Array w(values, t);
      Quantized actual(m.rows, m.cols);
      quantize(ctx, actual, w, t);
      const reference::Int8 expected = check_codes(actual, values);
      const oribi_int8 q = actual.q();
      /* To each type; without gaps, with gaps that keep 16-byte alignment, with gaps that do not. Gaps stay as they are. */
      for (oribi_dtype to : kDtypes) {
        for (int64_t ld : {m.cols, m.cols + 64, m.cols + 1}) {
          Array out(m.rows * ld, to, 7);
          CHECK_OK(ctx, oribi_int8_dequantize(ctx, out.data(), &q, m.rows, m.cols, ld, to));
          Values all(m.rows * ld, 7);
          for (int64_t i = 0; i < m.rows * m.cols; i++) {
            all[i / m.cols * ld + i % m.cols] = round_to(reference::int8_value(expected, i), to);
          }
          compare_within("w", out.values(), all, 0);
        }
      }
    }
  }
}

/* The sums of squares, of what the storage type makes of the code too; and that neither is needed. */
TEST(errors) {
  for (oribi_dtype t : kDtypes) {
    const Matrix m{13, 192};
    const Values w = block_weights(m, t);
    Context ctx;
    Array array(w, t);
    Quantized actual(m.rows, m.cols), without(m.rows, m.cols);
    quantize(ctx, actual, array, t);
    const reference::Int8 q = reference::int8_quantize(w);
    Values lost(actual.blocks), all(actual.blocks);
    for (size_t i = 0; i < w.size(); i++) {
      const double difference = w[i] - round_to(reference::int8_value(q, i), t);
      lost[i / 64] += difference * difference;
      all[i / 64] += w[i] * w[i];
    }
    compare_within("lost", actual.lost.values(), lost, 1e-4 * largest(lost));
    compare_within("all", actual.all.values(), all, 1e-5 * largest(all));
    const oribi_int8 plain = without.q();
    CHECK_OK(ctx, oribi_int8_quantize(ctx, &plain, nullptr, without.all.f32(), array.data(), m.rows, m.cols, t));
    CHECK(without.codes.values() == actual.codes.values() && without.scale.values() == actual.scale.values());
    CHECK(without.all.same_bits(actual.all));
    compare_within("untouched", without.lost.values(), Values(actual.blocks, NAN), 0);
  }
}

/* Rows in the middle of a matrix are a matrix of their own, as the tiles of a vocabulary are. */
TEST(slices_of_rows) {
  where = "slices";
  const Matrix m{113, 576};
  const Values w = block_weights(m, ORIBI_BF16);
  Context ctx;
  Array array(w, ORIBI_BF16), whole(w.size(), ORIBI_BF16), sliced(w.size(), ORIBI_BF16);
  Quantized all(m.rows, m.cols);
  quantize(ctx, all, array, ORIBI_BF16);
  const oribi_int8 q = all.q();
  CHECK_OK(ctx, oribi_int8_dequantize(ctx, whole.data(), &q, m.rows, m.cols, m.cols, ORIBI_BF16));
  uint16_t* out = static_cast<uint16_t*>(sliced.data());
  for (int64_t begin = 0; begin < m.rows; begin += 17) {
    const int64_t rows = std::min<int64_t>(17, m.rows - begin);
    const oribi_int8 part = {q.codes + begin * m.cols, q.scale + begin * m.cols / 64};
    CHECK_OK(ctx, oribi_int8_dequantize(ctx, out + begin * m.cols, &part, rows, m.cols, m.cols, ORIBI_BF16));
  }
  CHECK(sliced.same_bits(whole));
}

/* Every quotient of bf16 numbers near every boundary between codes: ties go to the even code, and 127 is never passed. */
TEST(every_quotient_of_bf16) {
  where = "quotients";
  Values w;
  for (int largest = 128; largest < 256; largest++) {
    for (int exponent = 0; exponent < 9; exponent++) {
      for (int x = 128; x < 256; x++) {
        const double value = std::ldexp(x, -exponent);
        if (value > largest) continue;
        for (double sign : {1.0, -1.0}) {
          if (w.size() % 64 == 0) w.push_back(largest);
          w.push_back(sign * value);
        }
      }
    }
    while (w.size() % 64 != 0) w.push_back(largest);
  }
  Context ctx;
  Array array(w, ORIBI_BF16);
  Quantized actual(static_cast<int64_t>(w.size()) / 64, 64);
  quantize(ctx, actual, array, ORIBI_BF16);
  check_codes(actual, w);
}

/* The error is bounded by half a step, and on normal numbers it is what the derivation says: rms step / sqrt(12), 0.593 %. */
TEST(size_of_the_error) {
  where = "size of the error";
  const Matrix m{256, 4096};
  Random random(1);
  const Values w = rounded(random.normals(m.rows * m.cols, 0, 0.02), ORIBI_F32);
  Array array(w, ORIBI_F32), back(w.size(), ORIBI_F32);
  Context ctx;
  Quantized actual(m.rows, m.cols);
  quantize(ctx, actual, array, ORIBI_F32);
  const oribi_int8 q = actual.q();
  CHECK_OK(ctx, oribi_int8_dequantize(ctx, back.data(), &q, m.rows, m.cols, m.cols, ORIBI_F32));
  const Values after = back.values();
  const std::vector<float> scale = actual.scale.values();
  double lost = 0, all = 0, excess = 0;
  for (size_t i = 0; i < w.size(); i++) {
    excess = std::fmax(excess, std::fabs(after[i] - w[i]) / scale[i / 64]);
    lost += (after[i] - w[i]) * (after[i] - w[i]);
    all += w[i] * w[i];
  }
  CHECK(excess <= 0.5 + 1e-4);
  compare_within("relative error", {std::sqrt(lost / all)}, {0.00593}, 0.00003);
}

/* Zeros, the smallest numbers, the largest, infinity and NaN: each in its own block, and the others as ever. */
TEST(odd_blocks) {
  for (oribi_dtype t : kDtypes) {
    where = std::string("odd ") + name_of(t);
    Random random(3);
    Values w = rounded(random.normals(64 * 8), t);
    const double tiny = t == ORIBI_F16 ? 0x1p-24 : t == ORIBI_BF16 ? 0x1p-133 : 0x1p-149;
    const double huge = t == ORIBI_F16 ? 65504 : t == ORIBI_BF16 ? 0x1.fep127 : 0x1p127; /* above, 127 * scale may be infinite */
    for (int i = 0; i < 64; i++) {
      w[64 + i] = i % 3 == 0 ? -0.0 : 0.0;
      w[128 + i] = (i - 32) * tiny;
      w[320 + i] = i % 2 == 0 ? huge : -huge / 2;
    }
    w[192 + 5] = NAN;
    w[192 + 6] = 3; /* after the NaN */
    w[256 + 63] = -INFINITY;
    Context ctx;
    Array array(w, t), back(w.size(), t);
    Quantized actual(8, 64);
    quantize(ctx, actual, array, t);
    const reference::Int8 expected = check_codes(actual, w);
    const oribi_int8 q = actual.q();
    CHECK_OK(ctx, oribi_int8_dequantize(ctx, back.data(), &q, 8, 64, 64, t));
    Values all;
    for (size_t i = 0; i < w.size(); i++) all.push_back(round_to(reference::int8_value(expected, i), t));
    compare_within("w", back.values(), all, 0);
    for (int i = 0; i < 64; i++) CHECK(back.get(64 + i) == 0 && std::isnan(back.get(192 + i)) && std::isnan(back.get(256 + i)));
    CHECK(std::isfinite(back.get(320)) && back.get(320) > 0.99 * huge);
  }
}

TEST(same_bits_every_time) {
  where = "same bits";
  const Matrix m{257, 576};
  Array w(block_weights(m, ORIBI_F32), ORIBI_F32);
  Quantized first(m.rows, m.cols);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Quantized again(m.rows, m.cols);
    quantize(ctx, threads == 1 ? first : again, w, ORIBI_F32);
    CHECK(threads == 1 || again == first);
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array w(128, ORIBI_F32, 1);
  Quantized quantized(2, 64);
  const oribi_int8 q = quantized.q();
  oribi_int8 broken = q;
  broken.scale = nullptr;
  CHECK_OK(ctx, oribi_int8_quantize(ctx, &q, nullptr, nullptr, nullptr, 0, 64, ORIBI_F32));
  CHECK_OK(ctx, oribi_int8_dequantize(ctx, nullptr, &q, 0, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "cols must be a multiple of 64, found 100",
               oribi_int8_quantize(ctx, &q, nullptr, nullptr, w.data(), 1, 100, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q.scale is NULL",
               oribi_int8_quantize(ctx, &broken, nullptr, nullptr, w.data(), 2, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q is NULL",
               oribi_int8_quantize(ctx, nullptr, nullptr, nullptr, w.data(), 2, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "w is NULL", oribi_int8_quantize(ctx, &q, nullptr, nullptr, nullptr, 2, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rows must be at least 0, found -1", oribi_int8_dequantize(ctx, w.data(), &q, -1, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld must be at least cols = 64, found 63",
               oribi_int8_dequantize(ctx, w.data(), &q, 2, 64, 63, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9", oribi_int8_dequantize(ctx, w.data(), &q, 2, 64, 64, static_cast<oribi_dtype>(9)));
}
