#include "check.h"

using namespace check;

namespace {

constexpr int64_t kPoison = -77;

/* Every element that is said to be written, and no other. */
void check_case(const std::vector<int32_t>& cu, const std::vector<int64_t>& strides, int64_t slots, int64_t pitch) {
  const int64_t sequences = static_cast<int64_t>(cu.size()) - 1, arrays = static_cast<int64_t>(strides.size());
  where = "sequences=" + std::to_string(sequences) + " slots=" + std::to_string(slots) + " arrays=" + std::to_string(arrays);
  Context ctx;
  Plain<int64_t> offsets(arrays * pitch + 1, kPoison);
  Plain<int32_t> lengths(slots + 1, kPoison), begins(cu);
  CHECK_OK(ctx, oribi_packed_offsets(ctx, offsets.data(), lengths.data(), begins.data(), strides.data(), arrays, pitch, slots,
                                     sequences));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  for (int64_t j = 0; j < arrays; j++) {
    for (int64_t i = 0; i < pitch; i++) {
      const int64_t expected = i > slots ? kPoison : cu[i < sequences ? i : sequences] * strides[j];
      CHECK(offsets.get(j * pitch + i) == expected);
    }
  }
  CHECK(offsets.get(arrays * pitch) == kPoison);
  for (int64_t i = 0; i < slots; i++) CHECK(lengths.get(i) == (i < sequences ? cu[i + 1] - cu[i] : 0));
  CHECK(lengths.get(slots) == kPoison);
}

}  // namespace

TEST(offsets_and_lengths) {
  check_case({0, 300, 317, 829, 1024}, {6144, 4096, 32}, 4, 5);
  check_case({0, 300, 300, 829}, {6144, 4096, 32, 1, 7, 0, 12, 13}, 9, 16);
  check_case({0, 5}, {3}, 200, 201);
  check_case({0}, {3}, 2, 3);
  check_case({0}, {3}, 0, 1);
  std::vector<int32_t> many(1024);
  for (size_t i = 0; i < many.size(); i++) many[i] = static_cast<int32_t>(i * i);
  check_case(many, {11, 2}, 1023, 1024);
}

TEST(past_31_bits) { check_case({0, 1 << 30, (1 << 30) + 5}, {6144, int64_t{1} << 32}, 2, 3); }

TEST(wrong_arguments) {
  Context ctx;
  Plain<int64_t> offsets(64);
  Plain<int32_t> lengths(8), cu({0, 1});
  const int64_t strides[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, negative[1] = {-1};
  const auto call = [&](const int64_t* s, int64_t arrays, int64_t pitch, int64_t slots, int64_t sequences) {
    return oribi_packed_offsets(ctx, offsets.data(), lengths.data(), cu.data(), s, arrays, pitch, slots, sequences);
  };
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "arrays is 9", call(strides, 9, 2, 1, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "pitch", call(strides, 1, 1, 1, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "slots", call(strides, 1, 9, 0, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "strides", call(negative, 1, 2, 1, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "cu_seqlens",
               oribi_packed_offsets(ctx, offsets.data(), lengths.data(), nullptr, strides, 1, 2, 1, 1));
}
