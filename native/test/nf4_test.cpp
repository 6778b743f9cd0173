#include "nf4_ref.h"

#include "block_weights.h"
#include "common/nf4.h"

using namespace check;
using Values = std::vector<double>;

namespace {

/* A matrix in NF4 in the device's memory. */
struct Quantized {
  int64_t count, blocks, groups;
  Plain<uint8_t> codes, absmax;
  Plain<float> absmax2, offset;

  explicit Quantized(int64_t n)
      : count(n), blocks(n / 64), groups((blocks + 255) / 256), codes(n / 2, 0xee), absmax(blocks, 0xee), absmax2(groups, 7.0f),
        offset(1, 7.0f) {}
  oribi_nf4 q() { return {codes.data(), absmax.data(), absmax2.data(), offset.data()}; }
  bool operator==(const Quantized& other) const {
    return codes.values() == other.codes.values() && absmax.values() == other.absmax.values() &&
           absmax2.values() == other.absmax2.values() && offset.get(0) == other.offset.get(0);
  }
};

void quantize(oribi_ctx* ctx, Quantized& out, Array& w, oribi_dtype t) {
  Array workspace(oribi_nf4_workspace(out.count) / 4, ORIBI_F32, NAN);
  const oribi_nf4 q = out.q();
  CHECK_OK(ctx, oribi_nf4_quantize(ctx, &q, w.data(), workspace.data(), out.count, t));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
}

/* Element by element equal; the first that is not is printed. */
template <class T>
void compare_exactly(const char* what, const std::vector<T>& actual, const std::vector<T>& expected) {
  compare_within(what, Values(actual.begin(), actual.end()), Values(expected.begin(), expected.end()), 0);
}

/* Codes, absmax, absmax2 as bitsandbytes would have them, given the mean, which is the nearest fp32 to the exact one. */
reference::Nf4 check_codes(const Quantized& actual, const Values& w, oribi_dtype t) {
  reference::Nf4 expected;
  reference::nf4_codes(expected, w);
  const float mean = static_cast<float>(reference::mean_absmax(expected.plain)), offset = actual.offset.get(0);
  CHECK(t == ORIBI_F32 ? std::fabs(offset - mean) <= 0x1p-23f * mean : offset == mean);
  reference::nf4_absmax(expected, oribi_dynamic_map_signed(), offset);
  compare_exactly("codes", actual.codes.values(), expected.codes);
  compare_exactly("absmax", actual.absmax.values(), expected.absmax);
  compare_exactly("absmax2", actual.absmax2.values(), expected.absmax2);
  return expected;
}

/* One block; an odd number of groups; a last group of one block; q_proj of SmolLM2-135M; rows longer than a tile. */
constexpr Matrix kMatrices[] = {{1, 64}, {3, 64}, {13, 192}, {257, 64}, {576, 576}, {3, 16448}, {5, 32768}};

}  // namespace

/* The map against its definition, and what the kernels rely on. */
TEST(dynamic_maps) {
  for (bool is_signed : {true, false}) {
    const float* map = is_signed ? oribi_dynamic_map_signed() : oribi_dynamic_map_unsigned();
    const Values exact = reference::dynamic_map(is_signed);
    for (int i = 0; i < 256; i++) CHECK(std::fabs(map[i] - exact[i]) <= 3e-7 * std::fabs(exact[i]));
    for (int i = 1; i < 256; i++) CHECK(map[i] > map[i - 1]);
    CHECK(map[is_signed ? 127 : 0] == 0 && map[255] == 1);
  }
}

TEST(thresholds) {
  for (int i = 0; i < 15; i++) {
    const double middle = (static_cast<double>(reference::kNf4[i]) + reference::kNf4[i + 1]) / 2;
    CHECK(std::fabs(oribi::kNf4Thresholds[i] - middle) <= 3e-8);
    CHECK(oribi::kNf4Thresholds[i] == reference::kNf4Halves[i] && oribi::kNf4Values[i] == reference::kNf4[i]);
  }
}

TEST(quantize_and_dequantize) {
  for (oribi_dtype t : kDtypes) {
    for (Matrix m : kMatrices) {
      const Values values = block_weights(m, t);
      Context ctx(2);
      Array w(values, t);
      Quantized actual(m.rows * m.cols);
      quantize(ctx, actual, w, t);
      const reference::Nf4 expected = check_codes(actual, values, t);
      const oribi_nf4 q = actual.q();
      /* Without gaps; with gaps that keep 16-byte alignment; with gaps that do not. Gaps stay as they are. */
      for (int64_t ld : {m.cols, m.cols + 64, m.cols + 1}) {
        Array out(m.rows * ld, t, 7);
        CHECK_OK(ctx, oribi_nf4_dequantize(ctx, out.data(), &q, m.rows, m.cols, ld, t));
        Values all(m.rows * ld, 7);
        for (int64_t i = 0; i < m.rows * m.cols; i++) {
          all[i / m.cols * ld + i % m.cols] =
              round_to(reference::nf4_value(expected, oribi_dynamic_map_signed(), actual.offset.get(0), i), t);
        }
        compare_within("w", out.values(), all, 0);
      }
    }
  }
}

/* Every quotient of two bf16 numbers near every threshold: codes are the reference's, and a reciprocal that is wrong in its
   last bit, such as a GPU's approximate one, would give the same ones. */
TEST(every_quotient_of_bf16) {
  where = "quotients";
  Values w;
  for (int largest = 128; largest < 256; largest++) {
    const float inverse = 1.0f / static_cast<float>(largest);
    for (int exponent = 0; exponent < 6; exponent++) {
      for (int x = 128; x < 256; x++) {
        const float value = std::ldexp(static_cast<float>(x), -exponent);
        if (value > largest) continue;
        for (float sign : {1.0f, -1.0f}) {
          const int code = reference::nf4_code(sign * value, inverse);
          CHECK(code == reference::nf4_code(sign * value, std::nextafterf(inverse, 0)));
          CHECK(code == reference::nf4_code(sign * value, std::nextafterf(inverse, 1)));
          if (w.size() % 64 == 0) w.push_back(largest);
          w.push_back(sign * value);
        }
      }
    }
    while (w.size() % 64 != 0) w.push_back(largest);
  }
  Context ctx;
  Array array(w, ORIBI_BF16);
  Quantized actual(static_cast<int64_t>(w.size()));
  quantize(ctx, actual, array, ORIBI_BF16);
  check_codes(actual, w, ORIBI_BF16);
}

/* fp32 numbers next to every threshold, and some all over [-1, 1]; each block's largest is 1. */
TEST(around_every_threshold) {
  where = "around thresholds";
  Values w;
  const auto add = [&w](float x) {
    if (w.size() % 64 == 0) w.push_back(1);
    w.push_back(x);
  };
  for (float threshold : reference::kNf4Halves) {
    float low = threshold, high = threshold;
    for (int i = 0; i < 40; i++) {
      add(low);
      add(high);
      low = std::nextafterf(low, -1), high = std::nextafterf(high, 1);
    }
  }
  for (int i = -20000; i <= 20000; i++) add(static_cast<float>(i) / 20000.0f);
  while (w.size() % 64 != 0) w.push_back(1);
  Context ctx;
  Array array(w, ORIBI_F32);
  Quantized actual(static_cast<int64_t>(w.size()));
  quantize(ctx, actual, array, ORIBI_F32);
  check_codes(actual, w, ORIBI_F32);
}

/* The published error of NF4 in blocks of 64 on normal numbers: 0.0728 on average. Double quantization adds 0.1 %. */
TEST(published_error) {
  where = "error";
  const int64_t count = 1 << 20;
  Random random(1);
  Array w(random.normals(count), ORIBI_F32), back(count, ORIBI_F32);
  Context ctx;
  Quantized actual(count);
  quantize(ctx, actual, w, ORIBI_F32);
  const oribi_nf4 q = actual.q();
  CHECK_OK(ctx, oribi_nf4_dequantize(ctx, back.data(), &q, 1024, 1024, 1024, ORIBI_F32));
  const Values before = w.values(), after = back.values();
  double error = 0;
  for (int64_t i = 0; i < count; i++) error += std::fabs(after[i] - before[i]);
  compare_within("mean error", {error / count}, {0.0728}, 0.0004);
}

/* Zeros, numbers whose reciprocal overflows, infinity and NaN: the codes of the reference, each in its own block. */
TEST(odd_blocks) {
  for (oribi_dtype t : {ORIBI_F32, ORIBI_BF16}) {
    where = std::string("odd ") + name_of(t);
    Random random(3);
    Values w = rounded(random.normals(64 * 6), t);
    for (int i = 0; i < 64; i++) {
      w[64 + i] = i % 3 == 0 ? -0.0 : 0.0;
      w[128 + i] = (i - 32) * 0x1p-133;
    }
    Context ctx;
    Array finite(w, t);
    Quantized actual(64 * 6);
    quantize(ctx, actual, finite, t);
    check_codes(actual, w, t);
    w[192] = INFINITY, w[300] = NAN;
    Array array(w, t);
    quantize(ctx, actual, array, t);
    reference::Nf4 expected;
    reference::nf4_codes(expected, w);
    compare_exactly("codes", actual.codes.values(), expected.codes);
    CHECK(std::isinf(actual.offset.get(0)));
  }
}

/* All absmax equal: nothing is left to quantize but the mean. */
TEST(equal_blocks) {
  where = "equal";
  Context ctx;
  Array w(Values(64 * 300, 0.5), ORIBI_F16), back(64 * 300, ORIBI_F16);
  Quantized actual(64 * 300);
  quantize(ctx, actual, w, ORIBI_F16);
  const oribi_nf4 q = actual.q();
  CHECK_OK(ctx, oribi_nf4_dequantize(ctx, back.data(), &q, 300, 64, 64, ORIBI_F16));
  CHECK(back.same_bits(w) && actual.offset.get(0) == 0.5f && actual.absmax2.get(0) == 0);
}

TEST(same_bits_every_time) {
  where = "same bits";
  const Matrix m{257, 576};
  Array w(block_weights(m, ORIBI_F32), ORIBI_F32);
  Quantized first(m.rows * m.cols);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Quantized again(m.rows * m.cols);
    quantize(ctx, threads == 1 ? first : again, w, ORIBI_F32);
    CHECK(threads == 1 || again == first);
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array w(128, ORIBI_F32, 1), workspace(oribi_nf4_workspace(128) / 4, ORIBI_F32);
  Quantized quantized(128);
  const oribi_nf4 q = quantized.q();
  oribi_nf4 broken = q;
  broken.absmax2 = nullptr;
  CHECK(oribi_nf4_workspace(0) == 0);
  CHECK_OK(ctx, oribi_nf4_quantize(ctx, &q, nullptr, nullptr, 0, ORIBI_F32));
  CHECK_OK(ctx, oribi_nf4_dequantize(ctx, nullptr, &q, 0, 64, 64, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "count must be a multiple of 64, found 100",
               oribi_nf4_quantize(ctx, &q, w.data(), workspace.data(), 100, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "q.absmax2 is NULL",
               oribi_nf4_quantize(ctx, &broken, w.data(), workspace.data(), 128, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL", oribi_nf4_quantize(ctx, &q, w.data(), nullptr, 128, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "cols must be a multiple of 64, found 32",
               oribi_nf4_dequantize(ctx, w.data(), &q, 2, 32, 32, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld must be at least cols = 64, found 63",
               oribi_nf4_dequantize(ctx, w.data(), &q, 2, 64, 63, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9", oribi_nf4_dequantize(ctx, w.data(), &q, 2, 64, 64, static_cast<oribi_dtype>(9)));
}
