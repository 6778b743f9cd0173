#include "check.h"
#include "embedding_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, c, v;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {13, 1, 5}, {113, 13, 7}, {13, 113, 1023}, {1023, 113, 29}, {64, 576, 4096}, {2500, 40, 3}, {33, 4096, 11}};

void check_case(Shape s, oribi_dtype t) {
  where = "n=" + std::to_string(s.n) + " c=" + std::to_string(s.c) + " v=" + std::to_string(s.v) + " " + name_of(t);
  Random random(static_cast<uint64_t>(s.n * 7 + s.c));
  const Values table_values = rounded(random.normals(s.v * s.c, 0.1, 1.1), t);
  const Values dy_values = rounded(random.normals(s.n * s.c, -0.1, 0.7), t);
  const Values dtable_values = rounded(random.normals(s.v * s.c, 0, 2), ORIBI_F32);
  std::vector<int32_t> ids(s.n);
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(s.v));
  ids.back() = static_cast<int32_t>(s.v - 1);
  Context ctx;
  Array table(table_values, t), y(s.n * s.c, t, 7), dy(dy_values, t), dtable(dtable_values, ORIBI_F32);
  Plain<int32_t> id_data(ids);
  CHECK_OK(ctx, oribi_embedding_forward(ctx, y.data(), table.data(), id_data.data(), s.n, s.c, s.v, t));
  compare_within("y", y.values(), reference::embedding_forward(table_values, ids, s.c), 0);
  CHECK_OK(ctx, oribi_embedding_backward(ctx, dtable.f32(), dy.data(), id_data.data(), s.n, s.c, s.v, t));
  Values exact(dtable_values), plain(dtable_values);
  reference::embedding_backward<double>(exact, dy_values, ids, s.c);
  reference::embedding_backward<float>(plain, dy_values, ids, s.c);
  compare("dtable", dtable.values(), exact, plain, ORIBI_F32);
  compare_within("dtable in the order of the tokens", dtable.values(), plain, 0);
}

}  // namespace

TEST(forward_and_backward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) check_case(s, t);
  }
}

TEST(reference_backward_by_finite_differences) {
  const int64_t c = 3;
  const std::vector<int32_t> ids = {2, 0, 2, 3};
  Random random(3);
  const Values table = random.normals(4 * c), dy = random.normals(4 * c);
  Values dtable(4 * c, 0.0);
  reference::embedding_backward<double>(dtable, dy, ids, c);
  compare_derivative("dtable", table, dtable, [&](const Values& x) {
    const Values y = reference::embedding_forward(x, ids, c);
    double sum = 0;
    for (size_t i = 0; i < y.size(); i++) sum += y[i] * dy[i];
    return sum;
  });
}

TEST(same_bits_for_any_number_of_threads) {
  const int64_t n = 1023, c = 300, v = 11;
  Random random(4);
  const Values dy_values = random.normals(n * c);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(v));
  Array dy(dy_values, ORIBI_BF16), first(v * c, ORIBI_F32);
  Plain<int32_t> id_data(ids);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array dtable(v * c, ORIBI_F32);
    CHECK_OK(ctx, oribi_embedding_backward(ctx, threads == 1 ? first.f32() : dtable.f32(), dy.data(), id_data.data(), n, c, v, ORIBI_BF16));
    CHECK(threads == 1 || dtable.same_bits(first));
  }
}

/* A CPU refuses an id out of range and writes nothing; a GPU writes zeros, adds nothing, and tells afterwards. */
TEST(ids_out_of_range) {
  Context ctx;
  const Values table_values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, dy_values = {1, 1, 1, 2, 2, 2};
  for (int32_t bad : {4, -1}) {
    where = "id " + std::to_string(bad);
    Array table(table_values, ORIBI_F32), y(6, ORIBI_F32, 3), dy(dy_values, ORIBI_F32), dtable(12, ORIBI_F32, 2);
    Plain<int32_t> ids({1, bad});
    const auto forward = [&] { return oribi_embedding_forward(ctx, y.data(), table.data(), ids.data(), 2, 3, 4, ORIBI_F32); };
    const auto backward = [&] { return oribi_embedding_backward(ctx, dtable.f32(), dy.data(), ids.data(), 2, 3, 4, ORIBI_F32); };
    if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
      const std::string found = "ids[1] is " + std::to_string(bad) + ", expected 0 to 3";
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_embedding_forward: ids[1] is ", forward());
      CHECK(std::string(oribi_ctx_message(ctx)).find(found) != std::string::npos);
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_embedding_backward: ids[1] is ", backward());
      compare_within("y", y.values(), Values(6, 3), 0);
      compare_within("dtable", dtable.values(), Values(12, 2), 0);
    } else {
      CHECK_OK(ctx, forward());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_embedding_forward or oribi_embedding_backward: an id was outside", oribi_ctx_synchronize(ctx));
      CHECK_OK(ctx, backward());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "an id was outside", oribi_ctx_synchronize(ctx));
      compare_within("y", y.values(), {4, 5, 6, 0, 0, 0}, 0);
      compare_within("dtable", dtable.values(), {2, 2, 2, 3, 3, 3, 2, 2, 2, 2, 2, 2}, 0);
    }
  }
}

TEST(arguments) {
  Context ctx;
  Array table(12, ORIBI_F32, 2), y(6, ORIBI_F32, 3);
  Plain<int32_t> ids({1, 2});
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ids is NULL",
               oribi_embedding_forward(ctx, y.data(), table.data(), nullptr, 2, 3, 4, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "v must be at least 1",
               oribi_embedding_forward(ctx, y.data(), table.data(), ids.data(), 2, 3, 0, ORIBI_F32));
  CHECK_OK(ctx, oribi_embedding_backward(ctx, nullptr, nullptr, nullptr, 0, 3, 4, ORIBI_F32));
  compare_within("untouched", y.values(), Values(6, 3), 0);
  compare_within("untouched", table.values(), Values(12, 2), 0);
}
