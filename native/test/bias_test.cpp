#include "bias_ref.h"
#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t rows, cols, pad;
};
/* Awkward ones, then q, k and v of Qwen2.5 7B side by side and a part of such rows. */
constexpr Shape kShapes[] = {{1, 1, 0},     {13, 1, 3},     {1, 13, 0},     {113, 13, 1},    {1023, 113, 0},
                             {301, 576, 8}, {37, 4608, 0},  {37, 3584, 1024}, {5000, 16, 0}};

struct Case {
  Shape s;
  int64_t ld;
  Values y, b, dy, db;

  Case(const char* name, Shape s_, oribi_dtype t) : s(s_), ld(s_.cols + s_.pad) {
    where = std::string(name) + " rows=" + std::to_string(s.rows) + " cols=" + std::to_string(s.cols) + " ld=" +
            std::to_string(ld) + " " + name_of(t);
    Random random(static_cast<uint64_t>(s.rows * 10007 + s.cols));
    y = rounded(random.normals(s.rows * ld, 0.3, 1.7), t);
    b = rounded(random.normals(s.cols, -0.2, 0.9), t);
    dy = rounded(random.normals(s.rows * ld, 0.05, 0.9), t);
    db = rounded(random.normals(s.cols, 0, 3), ORIBI_F32);
  }
};

}  // namespace

TEST(add) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      const Case c("add", s, t);
      Context ctx;
      Array y(c.y, t), b(c.b, t);
      CHECK_OK(ctx, oribi_bias_add(ctx, y.data(), b.data(), s.rows, s.cols, c.ld, t));
      Values expected(c.y); /* a sum of two numbers, rounded once: exact, also between the rows */
      reference::bias_add<float>(expected, c.b, s.rows, s.cols, c.ld);
      compare_within("y", y.values(), rounded(expected, t), 0);
    }
  }
}

TEST(backward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      const Case c("backward", s, t);
      Context ctx;
      Array dy(c.dy, t), db(c.db, ORIBI_F32), workspace(oribi_bias_backward_workspace(s.rows, s.cols) / 4, ORIBI_F32, NAN);
      CHECK_OK(ctx, oribi_bias_backward(ctx, db.f32(), dy.data(), workspace.data(), s.rows, s.cols, c.ld, t));
      Values exact(c.db), plain(c.db);
      reference::bias_backward<double>(exact, c.dy, s.rows, s.cols, c.ld);
      reference::bias_backward<float>(plain, c.dy, s.rows, s.cols, c.ld);
      compare("db", db.values(), exact, plain, ORIBI_F32, largest(c.db) + largest(c.dy));
      CHECK(s.rows != 1 || dy.same_bits(Array(c.dy, t)));
    }
  }
}

TEST(reference_backward_by_finite_differences) {
  const Case c("derivative", {5, 7, 2}, ORIBI_F32);
  Values db(c.s.cols, 0.0);
  reference::bias_backward<double>(db, c.dy, c.s.rows, c.s.cols, c.ld);
  compare_derivative("db", c.b, db, [&](const Values& b) {
    Values y(c.y);
    reference::bias_add<double>(y, b, c.s.rows, c.s.cols, c.ld);
    double sum = 0;
    for (int64_t row = 0; row < c.s.rows; row++) {
      for (int64_t i = 0; i < c.s.cols; i++) sum += y[row * c.ld + i] * c.dy[row * c.ld + i];
    }
    return sum;
  });
}

TEST(same_bits_for_any_number_of_threads) {
  const Case c("threads", {1023, 113, 5}, ORIBI_BF16);
  Array first(c.db, ORIBI_F32), dy(c.dy, ORIBI_BF16);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array db(c.db, ORIBI_F32), workspace(oribi_bias_backward_workspace(c.s.rows, c.s.cols) / 4, ORIBI_F32);
    CHECK_OK(ctx, oribi_bias_backward(ctx, threads == 1 ? first.f32() : db.f32(), dy.data(), workspace.data(), c.s.rows, c.s.cols,
                                      c.ld, ORIBI_BF16));
    CHECK(threads == 1 || db.same_bits(first));
  }
}

TEST(arguments) {
  Context ctx;
  Array a(16, ORIBI_F32, 3), db(4, ORIBI_F32, 5);
  void* p = a.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_bias_add: rows must be at least 0, found -1", oribi_bias_add(ctx, p, p, -1, 4, 4, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld must be at least 4, found 3", oribi_bias_add(ctx, p, p, 2, 4, 3, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "b is NULL", oribi_bias_add(ctx, p, nullptr, 2, 4, 4, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9", oribi_bias_add(ctx, p, p, 2, 4, 4, static_cast<oribi_dtype>(9)));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_bias_backward: workspace is NULL",
               oribi_bias_backward(ctx, db.f32(), p, nullptr, 2, 4, 4, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "dy is NULL", oribi_bias_backward(ctx, db.f32(), nullptr, p, 2, 4, 4, ORIBI_F32));
  CHECK_OK(ctx, oribi_bias_add(ctx, nullptr, nullptr, 0, 4, 4, ORIBI_F32));
  CHECK_OK(ctx, oribi_bias_backward(ctx, nullptr, nullptr, nullptr, 0, 4, 4, ORIBI_F32));
  compare_within("untouched", a.values(), Values(16, 3), 0);
  compare_within("untouched", db.values(), Values(4, 5), 0);
}
