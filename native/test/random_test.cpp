#include "random_ref.h"

#include "check.h"
#include "common/philox.h"

using namespace check;
using Values = std::vector<double>;

namespace {

constexpr int64_t kCounts[] = {1, 13, 113, 1023, 100003};
constexpr uint64_t kSeed = 0x1234567890abcdefu, kStream = 0xfedcba0987654321u;

}  // namespace

/* The known answers published with Random123. */
TEST(known_answers) {
  using Words = std::array<uint32_t, 4>;
  const struct {
    Words counter;
    std::array<uint32_t, 2> key;
    Words expected;
  } known[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
               {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
               {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
  for (const auto& k : known) {
    CHECK(reference::philox(k.counter, k.key) == k.expected);
    const oribi::PhiloxWords words = oribi::philox(k.key[0] | static_cast<uint64_t>(k.key[1]) << 32, k.counter[2] | static_cast<uint64_t>(k.counter[3]) << 32,
                                                   k.counter[0] | static_cast<uint64_t>(k.counter[1]) << 32);
    CHECK((Words{words.word[0], words.word[1], words.word[2], words.word[3]} == k.expected));
  }
}

TEST(uniform) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (int64_t count : kCounts) {
      where = std::string(name_of(t)) + " count=" + std::to_string(count);
      Array y(count, t, 7);
      CHECK_OK(ctx, oribi_random_uniform(ctx, y.data(), count, -0.5f, 2.5f, kSeed, kStream, t));
      Values expected(count);
      for (int64_t i = 0; i < count; i++) expected[i] = -0.5 + 3 * reference::random_uniform(kSeed, kStream, i);
      compare_within("y", y.values(), expected, 2.5 * 2 * round_off(t));
    }
  }
}

/* Where the width of the range is a power of two, every step but the last rounding is exact: all devices give these bits. */
TEST(uniform_bits) {
  Context ctx;
  const int64_t count = 1023;
  for (oribi_dtype t : kDtypes) {
    where = name_of(t);
    Array y(count, t, 7);
    CHECK_OK(ctx, oribi_random_uniform(ctx, y.data(), count, -1, 1, kSeed, kStream, t));
    Values expected(count);
    for (int64_t i = 0; i < count; i++) {
      expected[i] = round_to(round_to(-1 + 2 * reference::random_uniform(kSeed, kStream, i), ORIBI_F32), t);
    }
    compare_within("y", y.values(), expected, 0);
  }
}

/* The mask of dropout is exact on all devices, and so is a kept element: one product, rounded to fp32 and then to t. */
TEST(dropout_bits) {
  Context ctx;
  const int64_t count = 1023;
  const float p = 0.3f, scale = 1.0f / (1.0f - p);
  for (oribi_dtype t : kDtypes) {
    where = name_of(t);
    const Values x_values = rounded(Random(5).normals(count), t);
    Array x(x_values, t), y(count, t, 7);
    CHECK_OK(ctx, oribi_dropout(ctx, y.data(), x.data(), count, p, kSeed, kStream, 0, t));
    Values expected(count);
    for (int64_t i = 0; i < count; i++) {
      const bool keep = reference::random_uniform(kSeed, kStream, i) >= p;
      expected[i] = keep ? round_to(static_cast<float>(x_values[i]) * scale, t) : 0;
    }
    compare_within("y", y.values(), expected, 0);
  }
}

TEST(normal) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (int64_t count : kCounts) {
      where = std::string(name_of(t)) + " count=" + std::to_string(count);
      Array y(count, t, 7);
      CHECK_OK(ctx, oribi_random_normal(ctx, y.data(), count, 0.25f, 0.5f, kSeed, kStream, t));
      Values expected(count);
      for (int64_t i = 0; i < count; i++) expected[i] = 0.25 + 0.5 * reference::random_normal(kSeed, kStream, i);
      /* A radius near 0 comes from a logarithm near 0, whose argument has 24 bits: sqrt(2^-24) is its error. */
      compare_within("y", y.values(), expected, 3e-4 + 4 * round_off(t));
      double most = 0, mean_error = 0;
      for (int64_t i = 0; i < count; i++) mean_error += std::fabs(y.get(i) - expected[i]) / static_cast<double>(count);
      for (int64_t i = 0; i < count; i++) most = std::fmax(most, std::fabs(expected[i]));
      CHECK(mean_error <= 2 * most * round_off(t));
    }
  }
}

TEST(moments) {
  const int64_t count = 1 << 20;
  Context ctx;
  Array u(count, ORIBI_F32), z(count, ORIBI_F32);
  CHECK_OK(ctx, oribi_random_uniform(ctx, u.data(), count, 0, 1, seed, 1, ORIBI_F32));
  CHECK_OK(ctx, oribi_random_normal(ctx, z.data(), count, 0, 1, seed, 2, ORIBI_F32));
  double u1 = 0, u2 = 0, z1 = 0, z2 = 0, z4 = 0, lag = 0;
  bool in_range = true;
  for (int64_t i = 0; i < count; i++) {
    const double a = u.get(i), b = z.get(i);
    in_range &= a >= 0 && a < 1;
    u1 += a / count, u2 += a * a / count, z1 += b / count, z2 += b * b / count, z4 += b * b * b * b / count;
    if (i > 0) lag += b * z.get(i - 1) / count;
  }
  CHECK(in_range);
  /* Five standard errors of each mean. */
  compare_within("moments of u", {u1, u2}, {1.0 / 2, 1.0 / 3}, 5 * 0.3 / 1024);
  compare_within("moments of z", {z1, z2, lag}, {0, 1, 0}, 5 * 1.5 / 1024);
  compare_within("fourth moment of z", {z4}, {3}, 5 * 9.8 / 1024);
}

TEST(dropout) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (int64_t count : kCounts) {
      for (int32_t accumulate : {0, 1}) {
        where = std::string(name_of(t)) + " count=" + std::to_string(count) + " accumulate=" + std::to_string(accumulate);
        Random random(static_cast<uint64_t>(count));
        const Values x_values = rounded(random.normals(count), t), y_values = rounded(random.normals(count), t);
        const float p = 0.3f;
        Array x(x_values, t), y(y_values, t);
        CHECK_OK(ctx, oribi_dropout(ctx, y.data(), x.data(), count, p, kSeed, kStream, accumulate, t));
        Values expected(count), plain(count);
        for (int64_t i = 0; i < count; i++) {
          const bool keep = reference::random_uniform(kSeed, kStream, i) >= p;
          const double before = accumulate ? y_values[i] : 0;
          expected[i] = before + (keep ? x_values[i] / (1.0 - p) : 0.0);
          plain[i] = static_cast<float>(before) + (keep ? static_cast<float>(x_values[i]) / (1.0f - p) : 0.0f);
        }
        compare("y", y.values(), expected, rounded(plain, t), t);
        Array in_place(x_values, t), separate(count, t);
        CHECK_OK(ctx, oribi_dropout(ctx, in_place.data(), in_place.data(), count, p, kSeed, kStream, 0, t));
        CHECK_OK(ctx, oribi_dropout(ctx, separate.data(), x.data(), count, p, kSeed, kStream, 0, t));
        CHECK(in_place.same_bits(separate));
      }
    }
  }
}

/* With p = 0 dropout is a copy; each of seed and stream changes the numbers; threads do not. */
TEST(seeds_streams_threads) {
  const int64_t count = 100003;
  Array first(count, ORIBI_F32), other_seed(count, ORIBI_F32), other_stream(count, ORIBI_F32), copy(count, ORIBI_F32);
  Context ctx(1);
  CHECK_OK(ctx, oribi_random_normal(ctx, first.data(), count, 0, 1, kSeed, kStream, ORIBI_F32));
  CHECK_OK(ctx, oribi_random_normal(ctx, other_seed.data(), count, 0, 1, kSeed + 1, kStream, ORIBI_F32));
  CHECK_OK(ctx, oribi_random_normal(ctx, other_stream.data(), count, 0, 1, kSeed, kStream + 1, ORIBI_F32));
  CHECK(!first.same_bits(other_seed) && !first.same_bits(other_stream) && !other_seed.same_bits(other_stream));
  CHECK_OK(ctx, oribi_dropout(ctx, copy.data(), first.data(), count, 0, kSeed, kStream, 0, ORIBI_F32));
  CHECK(copy.same_bits(first));
  for (int32_t threads : {2, 3}) {
    Context many(threads);
    Array again(count, ORIBI_F32);
    CHECK_OK(many, oribi_random_normal(many, again.data(), count, 0, 1, kSeed, kStream, ORIBI_F32));
    CHECK(again.same_bits(first));
  }
}

TEST(arguments) {
  Context ctx;
  Array a(8, ORIBI_F32, 3);
  void* p = a.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_dropout: p is 1, expected 0 <= p < 1", oribi_dropout(ctx, p, p, 8, 1, 0, 0, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "p is nan", oribi_dropout(ctx, p, p, 8, NAN, 0, 0, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "low 2 and high 1", oribi_random_uniform(ctx, p, 8, 2, 1, 0, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "std -1", oribi_random_normal(ctx, p, 8, 0, -1, 0, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "y is NULL", oribi_random_normal(ctx, nullptr, 8, 0, 1, 0, 0, ORIBI_F32));
  compare_within("untouched", a.values(), Values(8, 3), 0);
  CHECK_OK(ctx, oribi_random_normal(ctx, nullptr, 0, 0, 1, 0, 0, ORIBI_F32));
}
