#include "ggml_blocks.h"

#include <cmath>

using namespace check;
using Values = std::vector<double>;

namespace {

struct Case {
  int64_t rows, cols;
};
constexpr Case kCases[] = {{1, 256}, {13, 256}, {3, 1024}, {113, 512}, {5, 4096}};

}  // namespace

TEST(dequantize) {
  for (oribi_ggml_type type : kTypes) {
    for (Case m : kCases) {
      const Blocks blocks(type, m.rows, m.cols, static_cast<uint64_t>(type));
      const Values expected = blocks.values();
      std::vector<uint8_t> later(blocks.bytes);
      later.insert(later.begin(), 2, 0);
      Plain<uint8_t> bytes(blocks.bytes), shifted(later); /* blocks may begin at any multiple of 2 */
      for (oribi_dtype t : kDtypes) {
        Context ctx(2);
        /* Without gaps, with gaps that keep 16-byte alignment, with gaps that do not. Gaps stay as they are. */
        for (int64_t ld : {m.cols, m.cols + 64, m.cols + 1}) {
          const bool shift = ld == m.cols + 64;
          where = "type " + std::to_string(type) + " " + std::to_string(m.rows) + "x" + std::to_string(m.cols) + " " + name_of(t);
          Array out(static_cast<size_t>(m.rows * ld), t, 7);
          CHECK_OK(ctx, oribi_ggml_dequantize(ctx, out.data(), shift ? shifted.data() + 2 : bytes.data(), m.rows, m.cols, ld, type, t));
          CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
          Values all(static_cast<size_t>(m.rows * ld), 7);
          for (int64_t i = 0; i < m.rows * m.cols; i++) {
            all[static_cast<size_t>(i / m.cols * ld + i % m.cols)] = round_to(expected[static_cast<size_t>(i)], t);
          }
          compare_within("w", out.values(), all, 0);
        }
      }
    }
  }
}

TEST(embedding) {
  for (oribi_ggml_type type : kTypes) {
    where = "embedding, type " + std::to_string(type);
    const int64_t v = 37, c = 512;
    const Blocks table(type, v, c, 11);
    const Values values = table.values();
    Plain<uint8_t> bytes(table.bytes);
    const std::vector<int32_t> tokens = {36, 0, 5, 5, 17};
    Plain<int32_t> ids(tokens);
    for (oribi_dtype t : kDtypes) {
      Context ctx(2);
      Array y(tokens.size() * static_cast<size_t>(c), t, NAN);
      CHECK_OK(ctx, oribi_ggml_embedding(ctx, y.data(), bytes.data(), ids.data(), 5, c, v, type, t));
      CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
      Values expected;
      for (int32_t id : tokens) {
        for (int64_t i = 0; i < c; i++) expected.push_back(round_to(values[static_cast<size_t>(id * c + i)], t));
      }
      compare_within("y", y.values(), expected, 0);
    }
  }
}

#ifndef ORIBI_TEST_CUDA
/* Rows with strides, and one; sums in fp32 against double: each term loses at most a few roundings of its own size. */
TEST(matmul) {
  std::vector<oribi_ggml_type> types(std::begin(kTypes), std::end(kTypes));
  for (oribi_ggml_type type : types) {
    for (int64_t n : {1, 3}) {
      const int64_t in = 768, out = 45, ld_x = in + 5, ld_y = out + 3;
      where = "matmul, type " + std::to_string(type) + " n " + std::to_string(n);
      const Blocks w(type, out, in, 5);
      const Values ws = w.values();
      Random random(3);
      Array x(random.normals(n * ld_x), ORIBI_F32), y(static_cast<size_t>(n * ld_y), ORIBI_F32, 7);
      Plain<uint8_t> bytes(w.bytes);
      Context ctx(2), one(1);
      CHECK_OK(ctx, oribi_ggml_matmul(ctx, y.f32(), x.f32(), bytes.data(), n, in, out, ld_x, ld_y, type));
      for (int64_t r = 0; r < n; r++) {
        for (int64_t o = 0; o < ld_y; o++) {
          double sum = 0, size = 0;
          for (int64_t i = 0; o < out && i < in; i++) {
            const double term = ws[static_cast<size_t>(o * in + i)] * x.get(static_cast<size_t>(r * ld_x + i));
            sum += term;
            size += std::fabs(term);
          }
          const double found = y.get(static_cast<size_t>(r * ld_y + o));
          if (o >= out) {
            CHECK(found == 7);
          } else {
            CHECK(std::fabs(found - sum) <= 4e-6 * size + 1e-12);
          }
        }
      }
      Array again(static_cast<size_t>(n * ld_y), ORIBI_F32, 7);
      CHECK_OK(one, oribi_ggml_matmul(one, again.f32(), x.f32(), bytes.data(), n, in, out, ld_x, ld_y, type));
      CHECK(again.same_bits(y));
    }
  }
}
#endif

TEST(refusals) {
  where = "refusals";
  Context ctx;
  Array w(1024, ORIBI_F32);
  Plain<uint8_t> bytes(1024, 0);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "none of oribi_ggml_type",
               oribi_ggml_dequantize(ctx, w.data(), bytes.data(), 1, 256, 256, static_cast<oribi_ggml_type>(9), ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "multiple of 256",
               oribi_ggml_dequantize(ctx, w.data(), bytes.data(), 1, 192, 192, ORIBI_GGML_Q4_K, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld must be at least",
               oribi_ggml_dequantize(ctx, w.data(), bytes.data(), 1, 256, 255, ORIBI_GGML_Q4_K, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "blocks", oribi_ggml_dequantize(ctx, w.data(), nullptr, 1, 256, 256, ORIBI_GGML_Q4_K, ORIBI_F32));
  CHECK_OK(ctx, oribi_ggml_dequantize(ctx, nullptr, nullptr, 0, 256, 256, ORIBI_GGML_Q4_K, ORIBI_F32));
}
