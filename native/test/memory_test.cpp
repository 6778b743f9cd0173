#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

constexpr int64_t kCounts[] = {1, 13, 113, 1023, 100003};

std::string pair_name(oribi_dtype to, oribi_dtype from) { return std::string(name_of(from)) + " to " + name_of(to); }

}  // namespace

TEST(cast) {
  Context ctx;
  for (oribi_dtype to : kDtypes) {
    for (oribi_dtype from : kDtypes) {
      for (int64_t count : kCounts) {
        where = pair_name(to, from) + " count=" + std::to_string(count);
        const Values values = rounded(Random(count).normals(count, 0.1, 3), from);
        Array x(values, from), y(count, to, 7);
        CHECK_OK(ctx, oribi_cast(ctx, y.data(), x.data(), count, to, from));
        compare_within("y", y.values(), rounded(values, to), 0);
      }
    }
  }
}

/* Every value of the 16-bit types, NaN and infinity included, through fp32 and back. */
TEST(every_16_bit_value) {
  Context ctx;
  for (oribi_dtype t : {ORIBI_BF16, ORIBI_F16}) {
    where = name_of(t);
    std::vector<uint16_t> all(65536);
    Values expected(65536);
    for (uint32_t bits = 0; bits < 65536; bits++) {
      all[bits] = static_cast<uint16_t>(bits);
      expected[bits] = decode(all[bits], t);
    }
    Plain<uint16_t> x(all);
    Array wide(65536, ORIBI_F32), back(65536, t);
    CHECK_OK(ctx, oribi_cast(ctx, wide.data(), x.data(), 65536, ORIBI_F32, t));
    compare_within("wide", wide.values(), expected, 0);
    CHECK_OK(ctx, oribi_cast(ctx, back.data(), wide.data(), 65536, t, ORIBI_F32));
    compare_within("back", back.values(), expected, 0);
    bool same_signs = true; /* of zeros too; that of NaN says nothing */
    for (size_t i = 0; i < 65536; i++) {
      same_signs &= std::isnan(expected[i]) || std::signbit(wide.get(i)) == std::signbit(expected[i]);
    }
    CHECK(same_signs);
  }
}

/* Each 16-bit value's neighbours in fp32, the ties between them and the numbers beside the ties. */
TEST(rounding_to_16_bits) {
  Context ctx;
  for (oribi_dtype t : {ORIBI_BF16, ORIBI_F16}) {
    where = name_of(t);
    Values values = {INFINITY, -INFINITY, NAN, 65519.99609375, 65520, -65520, 1e-46, 3.4028234e38, -3.3961775e38, 3.3961776e38};
    for (uint32_t bits = 0; bits < (t == ORIBI_BF16 ? 0x7f7fu : 0x7bffu); bits++) {
      const double here = decode(static_cast<uint16_t>(bits), t), next = decode(static_cast<uint16_t>(bits + 1), t);
      const float tie = static_cast<float>((here + next) / 2);
      values.insert(values.end(), {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, INFINITY), -tie});
    }
    values = rounded(values, ORIBI_F32);
    const int64_t count = static_cast<int64_t>(values.size());
    Array x(values, ORIBI_F32), y(count, t);
    CHECK_OK(ctx, oribi_cast(ctx, y.data(), x.data(), count, t, ORIBI_F32));
    compare_within("y", y.values(), rounded(values, t), 0);
  }
}

TEST(cast_rows) {
  Context ctx;
  const int64_t shapes[][4] = {{1, 1, 1, 1}, {13, 113, 113, 113}, {113, 13, 17, 40}, {1023, 16, 592, 16}, {5, 1023, 1030, 1024}};
  for (oribi_dtype to : kDtypes) {
    for (oribi_dtype from : kDtypes) {
      for (const auto& s : shapes) {
        const int64_t rows = s[0], cols = s[1], ldy = s[2], ldx = s[3];
        for (int32_t accumulate : {0, 1}) {
          where = pair_name(to, from) + " rows=" + std::to_string(rows) + " cols=" + std::to_string(cols) + " accumulate=" + std::to_string(accumulate);
          Random random(static_cast<uint64_t>(rows * 3 + cols));
          const Values x_values = rounded(random.normals(rows * ldx), from), y_values = rounded(random.normals(rows * ldy), to);
          Array x(x_values, from), y(y_values, to);
          CHECK_OK(ctx, oribi_cast_rows(ctx, y.data(), x.data(), rows, cols, ldy, ldx, to, from, accumulate));
          Values expected(y_values);
          for (int64_t row = 0; row < rows; row++) {
            for (int64_t i = 0; i < cols; i++) {
              const double sum = (accumulate ? y_values[row * ldy + i] : 0) + x_values[row * ldx + i];
              expected[row * ldy + i] = round_to(round_to(sum, ORIBI_F32), to);
            }
          }
          compare_within("y", y.values(), expected, 0);
        }
      }
    }
  }
}

TEST(add_and_fill) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (int64_t count : kCounts) {
      where = std::string(name_of(t)) + " count=" + std::to_string(count);
      Random random(static_cast<uint64_t>(count));
      const Values a_values = rounded(random.normals(count), t), b_values = rounded(random.normals(count, 1, 9), t);
      Values expected(count);
      for (int64_t i = 0; i < count; i++) expected[i] = round_to(round_to(a_values[i] + b_values[i], ORIBI_F32), t);
      Array a(a_values, t), b(b_values, t), y(count, t, 7);
      CHECK_OK(ctx, oribi_add(ctx, y.data(), a.data(), b.data(), count, t));
      compare_within("y", y.values(), expected, 0);
      CHECK_OK(ctx, oribi_add(ctx, a.data(), a.data(), b.data(), count, t));
      compare_within("in place of a", a.values(), expected, 0);
      CHECK_OK(ctx, oribi_fill(ctx, b.data(), count, -0.3f, t));
      compare_within("fill", b.values(), Values(count, round_to(-0.3f, t)), 0);
    }
  }
}

/* tanhf may differ by a few units in the last place from one library to the next. */
TEST(scale) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (int64_t count : kCounts) {
      for (double softcap : {0.0, 30.0}) {
        where = std::string(name_of(t)) + " count=" + std::to_string(count) + " softcap=" + std::to_string(softcap);
        Random random(static_cast<uint64_t>(count));
        const Values x_values = rounded(random.normals(count, 1, 20), t);
        const float scale = 1.7f;
        Values exact(count), plain(count);
        for (int64_t i = 0; i < count; i++) {
          const double z = x_values[i] * static_cast<double>(scale);
          const float f = static_cast<float>(x_values[i]) * scale;
          exact[i] = softcap == 0 ? z : softcap * std::tanh(z / softcap);
          plain[i] = softcap == 0 ? f : static_cast<float>(softcap) * std::tanh(f / static_cast<float>(softcap));
        }
        Array x(x_values, t), y(count, t, 7);
        CHECK_OK(ctx, oribi_scale(ctx, y.data(), x.data(), count, scale, static_cast<float>(softcap), t));
        compare("y", y.values(), exact, rounded(plain, t), t);
        CHECK_OK(ctx, oribi_scale(ctx, x.data(), x.data(), count, scale, static_cast<float>(softcap), t));
        CHECK(x.same_bits(y));
      }
    }
  }
  Array x(4, ORIBI_F32, 1);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "softcap must not be negative, found -1", oribi_scale(ctx, x.data(), x.data(), 4, 1, -1, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_scale: x is NULL", oribi_scale(ctx, x.data(), nullptr, 4, 1, 0, ORIBI_F32));
}

TEST(gather_and_scatter) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    const int64_t shapes[][5] = {{1, 1, 1, 1, 1}, {13, 40, 113, 120, 113}, {113, 300, 13, 13, 19}, {40, 64, 1023, 1023, 1024}, {40, 64, 4096, 4096, 4104}};
    for (const auto& s : shapes) {
      const int64_t n = s[0], rows = s[1], c = s[2], ld_few = s[3], ld_many = s[4];
      where = std::string(name_of(t)) + " n=" + std::to_string(n) + " c=" + std::to_string(c);
      Random random(static_cast<uint64_t>(n + c));
      const Values many = rounded(random.normals(rows * ld_many), t), few = rounded(random.normals(n * ld_few), t);
      std::vector<int32_t> index(n);
      for (int64_t i = 0; i < n; i++) index[i] = static_cast<int32_t>((i * 7 + 1) % rows); /* 7 divides no count of rows here: all differ */
      Values gathered(few), scattered(many);
      for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < c; j++) {
          gathered[i * ld_few + j] = many[index[i] * ld_many + j];
          scattered[index[i] * ld_many + j] = few[i * ld_few + j];
        }
      }
      Array x(many, t), y(few, t);
      Plain<int32_t> index_data(index);
      CHECK_OK(ctx, oribi_gather_rows(ctx, y.data(), x.data(), index_data.data(), n, rows, c, ld_few, ld_many, t));
      compare_within("gathered", y.values(), gathered, 0);
      Array from(few, t), to(many, t);
      CHECK_OK(ctx, oribi_scatter_rows(ctx, to.data(), from.data(), index_data.data(), n, rows, c, ld_many, ld_few, t));
      compare_within("scattered", to.values(), scattered, 0);
    }
  }
}

/* A CPU refuses an index out of range and writes nothing; a GPU gathers zeros, scatters nothing, and tells afterwards, once. */
TEST(indices_out_of_range) {
  Context ctx;
  const Values rows = {1, 2, 3, 4, 5, 6, 7, 8}, before(8, 9.0);
  for (int32_t bad : {2, -1}) {
    where = "index " + std::to_string(bad);
    Array x(rows, ORIBI_F32), gathered(before, ORIBI_F32), scattered(before, ORIBI_F32);
    Plain<int32_t> index({1, bad});
    const auto gather = [&] { return oribi_gather_rows(ctx, gathered.data(), x.data(), index.data(), 2, 2, 4, 4, 4, ORIBI_F32); };
    const auto scatter = [&] { return oribi_scatter_rows(ctx, scattered.data(), x.data(), index.data(), 2, 2, 4, 4, 4, ORIBI_F32); };
    if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_gather_rows: index[1] is ", gather());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_scatter_rows: index[1] is ", scatter());
      compare_within("gathered", gathered.values(), before, 0);
      compare_within("scattered", scattered.values(), before, 0);
    } else {
      CHECK_OK(ctx, gather());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_gather_rows: an index was outside", oribi_ctx_synchronize(ctx));
      CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
      CHECK_OK(ctx, scatter());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_scatter_rows: an index was outside", oribi_ctx_synchronize(ctx));
      compare_within("gathered", gathered.values(), {5, 6, 7, 8, 0, 0, 0, 0}, 0);
      compare_within("scattered", scattered.values(), {9, 9, 9, 9, 1, 2, 3, 4}, 0);
    }
  }
}

/* Parts of arrays that begin at any element: no access may be wider than its address allows. */
TEST(unaligned_parts) {
  Context ctx;
  const int64_t count = 1001;
  for (oribi_dtype t : kDtypes) {
    where = name_of(t);
    Random random(11);
    const Values a_values = rounded(random.normals(count), t), y_values = rounded(random.normals(count), t);
    Array a(a_values, t), y(y_values, t), wide(count, ORIBI_F32, 7);
    const auto part = [t](Array& array) { return static_cast<char*>(array.data()) + size_of(t); };
    CHECK_OK(ctx, oribi_add(ctx, part(y), part(y), part(a), count - 1, t));
    CHECK_OK(ctx, oribi_cast(ctx, wide.f32() + 1, part(y), count - 1, ORIBI_F32, t));
    CHECK_OK(ctx, oribi_fill(ctx, part(a), count - 1, 2, t));
    Values expected(y_values), filled(count, 2.0);
    for (int64_t i = 1; i < count; i++) expected[i] = round_to(round_to(y_values[i] + a_values[i], ORIBI_F32), t);
    filled[0] = a_values[0];
    compare_within("add", y.values(), expected, 0);
    compare_within("fill", a.values(), filled, 0);
    expected[0] = 7;
    compare_within("cast", wide.values(), expected, 0);
  }
}

TEST(arguments) {
  Context ctx;
  Array a(8, ORIBI_F32, 3);
  void* p = a.data();
  const auto wrong = static_cast<oribi_dtype>(3);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_cast: count must be at least 0, found -8", oribi_cast(ctx, p, p, -8, ORIBI_F32, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "tx is 3", oribi_cast(ctx, p, p, 8, ORIBI_F32, wrong));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ty is 3", oribi_cast(ctx, p, p, 8, wrong, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "y is NULL", oribi_cast(ctx, nullptr, p, 8, ORIBI_F32, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_cast_rows: ldy must be at least 4, found 3", oribi_cast_rows(ctx, p, p, 2, 4, 3, 4, ORIBI_F32, ORIBI_F32, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ldx must be at least 4, found 2", oribi_cast_rows(ctx, p, p, 2, 4, 4, 2, ORIBI_F32, ORIBI_F32, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_add: b is NULL", oribi_add(ctx, p, p, nullptr, 8, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_fill: y is NULL", oribi_fill(ctx, nullptr, 8, 1, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_gather_rows: index is NULL", oribi_gather_rows(ctx, p, p, nullptr, 2, 2, 4, 4, 4, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_scatter_rows: ldx must be at least 4", oribi_scatter_rows(ctx, p, p, nullptr, 2, 2, 4, 4, 3, ORIBI_F32));
  compare_within("untouched", a.values(), Values(8, 3), 0);
  CHECK_OK(ctx, oribi_cast(ctx, nullptr, nullptr, 0, ORIBI_F32, ORIBI_F32));
  CHECK_OK(ctx, oribi_gather_rows(ctx, nullptr, nullptr, nullptr, 0, 2, 4, 4, 4, ORIBI_F32));
}
