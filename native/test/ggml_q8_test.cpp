#include "ggml_q8_ref.h"

#include "ggml_blocks.h"

#include <algorithm>
#include <cmath>

using namespace check;

#ifndef ORIBI_TEST_CUDA
namespace {

size_t group_of(oribi_ggml_type type) { return static_cast<size_t>(reference::ggml_sizes(type).elements); }

struct Product {
  Values sums, sizes; /* [n,out], and with all terms positive */
};

/* In double, x as it is; rows of x lie ld_x apart. */
Product product(const Values& ws, const Values& x, int64_t n, int64_t in, int64_t out, int64_t ld_x) {
  Product p;
  for (int64_t r = 0; r < n; r++) {
    for (int64_t o = 0; o < out; o++) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < in; i++) {
        const double term = ws[static_cast<size_t>(o * in + i)] * x[static_cast<size_t>(r * ld_x + i)];
        sum += term;
        size += std::fabs(term);
      }
      p.sums.push_back(sum);
      p.sizes.push_back(size);
    }
  }
  return p;
}

/* The rows of x rounded, what lies between rows as it is. */
Values round_rows(const Values& x, int64_t n, int64_t in, int64_t ld_x, oribi_ggml_type type) {
  Values all = x;
  for (int64_t r = 0; r < n; r++) {
    const auto begin = x.begin() + r * ld_x;
    const Values row = reference::ggml_round_x(Values(begin, begin + in), group_of(type));
    std::copy(row.begin(), row.end(), all.begin() + r * ld_x);
  }
  return all;
}

/* One call for n rows without gaps. */
Values multiply(Blocks& w, const Values& x, int64_t n) {
  Context ctx(2);
  Array xs(x, ORIBI_F32), y(static_cast<size_t>(n * w.rows), ORIBI_F32, 7);
  CHECK_OK(ctx, oribi_ggml_matmul_q8(ctx, y.f32(), xs.f32(), w.bytes.data(), n, w.cols, w.rows, w.cols, w.rows, w.type));
  return y.values();
}

}  // namespace

/* Against the rounded x in double: what is left is fp32's rounding between blocks and of the scales, so that one wrong code of
   256 would be seen. Odd numbers of blocks and of rows, more rows than the stack holds, strides, one thread and two. */
TEST(rounded) {
  struct Case {
    int64_t n, blocks, out;
  };
  for (oribi_ggml_type type : kTypes) {
    for (const Case c : {Case{1, 1, 1}, Case{1, 3, 45}, Case{3, 8, 113}, Case{2, 13, 1023}, Case{3, 65536, 5}}) {
      const int64_t in = std::min<int64_t>(c.blocks * reference::ggml_sizes(type).elements, 65536), ld_x = in + 5, ld_y = c.out + 3;
      where = "rounded, type " + std::to_string(type) + " in " + std::to_string(in) + " out " + std::to_string(c.out);
      const Blocks w(type, c.out, in, 5);
      Random random(3);
      Array x(random.normals(c.n * ld_x), ORIBI_F32), y(static_cast<size_t>(c.n * ld_y), ORIBI_F32, 7);
      Context ctx(2), one(1);
      CHECK_OK(ctx, oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.bytes.data(), c.n, in, c.out, ld_x, ld_y, type));
      const Product expected = product(w.values(), round_rows(x.values(), c.n, in, ld_x, type), c.n, in, c.out, ld_x);
      for (int64_t i = 0; i < c.n * ld_y; i++) {
        const int64_t r = i / ld_y, o = i % ld_y;
        const double found = y.get(static_cast<size_t>(i));
        if (o >= c.out) {
          CHECK(found == 7);
          continue;
        }
        const size_t at = static_cast<size_t>(r * c.out + o);
        CHECK(std::fabs(found - expected.sums[at]) <= 1e-6 * expected.sizes[at]);
      }
      Array again(static_cast<size_t>(c.n * ld_y), ORIBI_F32, 7);
      CHECK_OK(one, oribi_ggml_matmul_q8(one, again.f32(), x.f32(), w.bytes.data(), c.n, in, c.out, ld_x, ld_y, type));
      CHECK(again.same_bits(y));
    }
  }
}

/* Whole numbers times powers of two throughout: no bit may be lost. x holds 127 in each group, so that its codes are x itself. */
TEST(whole_numbers) {
  for (oribi_ggml_type type : kTypes) {
    where = "whole_numbers, type " + std::to_string(type);
    Blocks w(type, 37, 512, 9);
    w.scale_by(-0.03125);
    Random random(4);
    Values x(512);
    for (double& v : x) v = static_cast<double>(random.below(255) - 127) / 64;
    for (size_t i = 0; i < x.size(); i += 32) x[i + static_cast<size_t>(random.below(32))] = i % 64 == 0 ? 127.0 / 64 : -127.0 / 64;
    compare_within("y", multiply(w, x, 1), product(w.values(), x, 1, 512, 37, 512).sums, 0);
  }
}

/* The largest codes and scales on either side: sums of pairs must not leave 16 bits. */
TEST(extremes) {
  for (oribi_ggml_type type : kTypes) {
    for (int byte : {0x80, 0x7f, 0xff, 0x00}) {
      for (double sign : {1.0, -1.0}) {
        where = "extremes, type " + std::to_string(type) + " bytes " + std::to_string(byte);
        Blocks w(type, 3, 256, 1);
        std::fill(w.bytes.begin(), w.bytes.end(), static_cast<uint8_t>(byte));
        w.scale_by(0.5);
        const Values x(256, sign * 127);
        compare_within("y", multiply(w, x, 1), product(w.values(), x, 1, 256, 3, 256).sums, 0);
      }
    }
  }
}

/* NaN and infinity reach every result of their row, a row beside it is untouched, and tiny numbers are zeros. */
TEST(special) {
  for (oribi_ggml_type type : kTypes) {
    for (double special : {static_cast<double>(NAN), static_cast<double>(INFINITY), -static_cast<double>(INFINITY)}) {
      where = "special, type " + std::to_string(type);
      Blocks w(type, 5, 512, 2);
      Random random(8);
      Values x = random.normals(1024);
      const Values clean = multiply(w, x, 2);
      x[300] = special;
      const Values found = multiply(w, x, 2);
      for (size_t i = 0; i < 5; i++) {
        CHECK(std::isnan(found[i]));
        CHECK(found[i + 5] == clean[i + 5]);
      }
    }
    where = "tiny, type " + std::to_string(type);
    Blocks w(type, 5, 256, 2);
    compare_within("y", multiply(w, Values(256, 0x1p-101), 1), Values(5), 0);
    compare_within("y", multiply(w, Values(256, 0), 1), Values(5), 0);
  }
}

/* Types without blocks: x stays as it is. */
TEST(plain_types) {
  Random random(6);
  for (oribi_ggml_type type : {ORIBI_GGML_F32, ORIBI_GGML_F16, ORIBI_GGML_BF16}) {
    where = "plain, type " + std::to_string(type);
    const oribi_dtype t = type == ORIBI_GGML_F32 ? ORIBI_F32 : type == ORIBI_GGML_F16 ? ORIBI_F16 : ORIBI_BF16;
    for (int64_t in : {1, 13, 113, 1023, 768, 131072}) {
      const int64_t out = 19, n = 3;
      Array w(random.normals(out * in), t), x(random.normals(n * in), ORIBI_F32), y(static_cast<size_t>(n * out), ORIBI_F32, 7);
      Context ctx(2);
      CHECK_OK(ctx, oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.data(), n, in, out, in, out, type));
      const Product expected = product(w.values(), x.values(), n, in, out, in);
      for (size_t i = 0; i < static_cast<size_t>(n * out); i++) CHECK(std::fabs(y.get(i) - expected.sums[i]) <= 2e-6 * expected.sizes[i]);
    }
  }
}

/* Every number of 16 bits, NaN and infinity and subnormal ones among them, as a weight of one element that is not zero. */
TEST(all_halves) {
  for (oribi_ggml_type type : {ORIBI_GGML_F16, ORIBI_GGML_BF16}) {
    const oribi_dtype t = type == ORIBI_GGML_F16 ? ORIBI_F16 : ORIBI_BF16;
    const int64_t in = 16, out = 65536;
    std::vector<uint16_t> w(static_cast<size_t>(in * out));
    for (int64_t i = 0; i < out; i++) w[static_cast<size_t>(i * in + i % in)] = static_cast<uint16_t>(i);
    Context ctx(2);
    Array x(Values(static_cast<size_t>(in), 1), ORIBI_F32), y(static_cast<size_t>(out), ORIBI_F32, 7);
    CHECK_OK(ctx, oribi_ggml_matmul(ctx, y.f32(), x.f32(), w.data(), 1, in, out, in, out, type));
    for (int64_t i = 0; i < out; i++) {
      const double expected = decode(static_cast<uint16_t>(i), t), found = y.get(static_cast<size_t>(i));
      where = "all_halves, " + std::string(name_of(t)) + " " + std::to_string(i);
      CHECK(std::isnan(expected) ? std::isnan(found) : found == expected);
    }
  }
}

TEST(refusals) {
  where = "refusals";
  Context ctx;
  Array x(1024, ORIBI_F32), y(1024, ORIBI_F32);
  std::vector<uint8_t> w(4096);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "multiple of 256",
               oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.data(), 1, 192, 1, 192, 1, ORIBI_GGML_Q4_K));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "none of oribi_ggml_type",
               oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.data(), 1, 256, 1, 256, 1, static_cast<oribi_ggml_type>(9)));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_x and ld_y",
               oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.data(), 1, 256, 1, 255, 1, ORIBI_GGML_Q8_0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "in is 262144",
               oribi_ggml_matmul_q8(ctx, y.f32(), x.f32(), w.data(), 1, 262144, 1, 262144, 1, ORIBI_GGML_Q8_0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "x",
               oribi_ggml_matmul_q8(ctx, y.f32(), nullptr, w.data(), 1, 256, 1, 256, 1, ORIBI_GGML_Q8_0));
  CHECK_OK(ctx, oribi_ggml_matmul_q8(ctx, nullptr, nullptr, nullptr, 0, 256, 1, 256, 1, ORIBI_GGML_Q8_0));
}
#else
TEST(refusals) {
  where = "refusals";
  Context ctx;
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_ggml_dequantize",
               oribi_ggml_matmul_q8(ctx, nullptr, nullptr, nullptr, 1, 256, 1, 256, 1, ORIBI_GGML_Q8_0));
}
#endif
