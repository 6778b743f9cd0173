#include "check.h"
#include "head_norm_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, h, d, pad_x, pad_y;
};
/* Awkward ones, then the heads of Qwen3 (32 of 128, 8 within rows of q, k and v) and Gemma 3 (256), and some in strided
   rows; on a GPU a head is held by 8, 16 or 32 lanes, or, from 33 packs of 16 bytes on or with odd sizes, read in a loop. */
constexpr Shape kShapes[] = {{1, 1, 1, 0, 0},      {13, 3, 26, 0, 0},     {113, 2, 13, 5, 1},   {29, 9, 64, 0, 0},
                             {7, 32, 128, 0, 0},   {5, 8, 128, 4096, 0},  {6, 4, 256, 512, 8},  {3, 2, 80, 0, 16},
                             {2, 3, 1024, 0, 0},   {700, 4, 16, 0, 0},    {3, 1, 1000, 3, 0}};
constexpr float kEps = 1e-6f;

double identity(double x) { return x; }

struct Case {
  Shape s;
  oribi_dtype t;
  oribi_head_norm_shape shape;
  reference::HeadNormSizes sizes;
  Values x, w, dy, dx0, dw0, rstd;
  Values w64, w32; /* what the definition multiplies by, in double and in fp32: w, or 1 + w */

  Case(const char* name, Shape s_, oribi_dtype t_, oribi_norm_weight weight = ORIBI_NORM_WEIGHT) : s(s_), t(t_) {
    where = std::string(name) + " n=" + std::to_string(s.n) + " h=" + std::to_string(s.h) + " d=" + std::to_string(s.d) + " " + name_of(t);
    shape = {s.n, s.h, s.d, s.h * s.d + s.pad_x, s.h * s.d + s.pad_y, kEps, t, weight, 0};
    sizes = {s.n, s.h, s.d, shape.ld_x, shape.ld_y};
    Random random(static_cast<uint64_t>(s.n * 10007 + s.d));
    x = rounded(random.normals(s.n * shape.ld_x, 0.3, 1.7), t);
    w = rounded(random.normals(s.d, 0.8, 0.5), t);
    const bool plus = weight == ORIBI_NORM_ONE_PLUS_WEIGHT;
    for (double v : w) {
      w64.push_back(plus ? 1 + v : v);
      w32.push_back(plus ? 1.0f + static_cast<float>(v) : v);
    }
    dy = rounded(random.normals(s.n * shape.ld_y, 0.05, 0.9), t);
    dx0 = rounded(random.normals(s.n * shape.ld_y, 0, 2), t);
    dw0 = rounded(random.normals(s.d, 0, 3), ORIBI_F32);
    Values y(s.n * shape.ld_y);
    reference::head_norm_forward<double>(y, rstd, x, w, sizes, kEps, identity);
    rstd = rounded(rstd, ORIBI_F32);
  }
};

void check_forward(Shape s, oribi_dtype t, oribi_norm_weight weight) {
  const Case c(weight == ORIBI_NORM_WEIGHT ? "forward" : "forward 1+w", s, t, weight);
  const bool rounds = weight == ORIBI_NORM_WEIGHT;
  Context ctx;
  Array x(c.x, t), w(c.w, t), y(c.dx0, t), rstd(s.n * s.h, ORIBI_F32, 7);
  CHECK_OK(ctx, oribi_head_norm_forward(ctx, y.data(), rstd.f32(), x.data(), w.data(), &c.shape));
  /* What lies between the rows of y stays as it was. */
  Values exact_y(c.dx0), plain_y(c.dx0), exact_rstd, plain_rstd;
  reference::head_norm_forward<double>(exact_y, exact_rstd, c.x, c.w64, c.sizes, kEps, identity);
  reference::head_norm_forward<float>(plain_y, plain_rstd, c.x, c.w32, c.sizes, kEps,
                                      [=](double v) { return rounds ? round_to(v, t) : v; });
  compare("y", y.values(), exact_y, rounded(plain_y, t), t);
  compare("rstd", rstd.values(), exact_rstd, plain_rstd, ORIBI_F32);
  for (int64_t i = 0; i < s.n * c.shape.ld_y; i++) {
    if (i % c.shape.ld_y >= s.h * s.d) CHECK(y.get(i) == c.dx0[i]);
  }
}

void check_backward(Shape s, oribi_dtype t, bool with_dw, oribi_norm_weight weight) {
  const Case c(weight == ORIBI_NORM_WEIGHT ? "backward" : "backward 1+w", s, t, weight);
  Context ctx;
  Array x(c.x, t), w(c.w, t), dy(c.dy, t), dx(c.dx0, t), dw(c.dw0, ORIBI_F32), rstd(c.rstd, ORIBI_F32);
  Array workspace(oribi_head_norm_backward_workspace(s.n, s.h, s.d) / 4, ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_head_norm_backward(ctx, dx.data(), with_dw ? dw.f32() : nullptr, rstd.f32(), dy.data(), x.data(),
                                         w.data(), with_dw ? workspace.data() : nullptr, &c.shape));
  Values exact_dx(c.dx0), plain_dx(c.dx0), exact_dw(c.dw0), plain_dw(c.dw0);
  reference::head_norm_backward<double>(exact_dx, exact_dw, c.rstd, c.dy, c.x, c.w64, c.sizes);
  reference::head_norm_backward<float>(plain_dx, plain_dw, c.rstd, c.dy, c.x, c.w32, c.sizes);
  double dx_term = 0, dw_term = largest(c.dw0);
  for (int64_t i = 0; i < s.n * s.h; i++) {
    for (int64_t j = 0; j < s.d; j++) {
      const double scaled = c.rstd[i] * c.dy[i / s.h * c.shape.ld_y + i % s.h * s.d + j];
      dx_term = std::fmax(dx_term, std::fabs(scaled) * (std::fabs(c.w[j]) + std::fabs(c.w64[j])));
      dw_term = std::fmax(dw_term, std::fabs(scaled * c.x[i / s.h * c.shape.ld_x + i % s.h * s.d + j]));
    }
  }
  compare("dx", dx.values(), exact_dx, rounded(plain_dx, t), t, dx_term);
  compare("dw", dw.values(), with_dw ? exact_dw : c.dw0, with_dw ? plain_dw : c.dw0, ORIBI_F32, dw_term);
  for (int64_t i = 0; i < s.n * c.shape.ld_y; i++) {
    if (i % c.shape.ld_y >= s.h * s.d) CHECK(dx.get(i) == c.dx0[i]);
  }
}

}  // namespace

TEST(forward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      check_forward(s, t, ORIBI_NORM_WEIGHT);
      check_forward(s, t, ORIBI_NORM_ONE_PLUS_WEIGHT);
    }
  }
}

TEST(backward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      for (oribi_norm_weight weight : {ORIBI_NORM_WEIGHT, ORIBI_NORM_ONE_PLUS_WEIGHT}) {
        check_backward(s, t, true, weight);
        check_backward(s, t, false, weight);
      }
    }
  }
}

/* y in the place of x, dx in that of dy: inside the rows of a fused q, k, v. */
TEST(in_place) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : {Shape{5, 8, 128, 256, 256}, Shape{13, 3, 26, 1, 1}}) {
      const Case c("in place", s, t);
      Context ctx;
      Array x(c.x, t), apart(c.x, t), w(c.w, t), dy(c.dy, t), dx(c.dy, t), y(c.x, t), rstd(s.n * s.h, ORIBI_F32), again(s.n * s.h, ORIBI_F32);
      CHECK_OK(ctx, oribi_head_norm_forward(ctx, apart.data(), rstd.f32(), x.data(), w.data(), &c.shape));
      CHECK_OK(ctx, oribi_head_norm_forward(ctx, y.data(), again.f32(), y.data(), w.data(), &c.shape));
      CHECK(y.same_bits(apart) && again.same_bits(rstd));
      CHECK_OK(ctx, oribi_head_norm_backward(ctx, dx.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, &c.shape));
      CHECK_OK(ctx, oribi_head_norm_backward(ctx, dy.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, &c.shape));
      CHECK(dy.same_bits(dx));
    }
  }
}

TEST(reference_backward_by_finite_differences) {
  const Case c("reference", {3, 2, 5, 2, 1}, ORIBI_F32);
  Values y(c.dy.size()), rstd, dx(c.dy.size()), dw(c.s.d, 0.0);
  reference::head_norm_forward<double>(y, rstd, c.x, c.w, c.sizes, kEps, identity);
  reference::head_norm_backward<double>(dx, dw, rstd, c.dy, c.x, c.w, c.sizes);
  auto loss = [&](const Values& x, const Values& w) {
    Values out(c.dy.size(), 0.0), scale;
    reference::head_norm_forward<double>(out, scale, x, w, c.sizes, kEps, identity);
    double sum = 0;
    for (size_t i = 0; i < out.size(); i++) sum += out[i] * c.dy[i];
    return sum;
  };
  Values in_rows_of_x(c.x.size(), 0.0); /* dx has the rows of dy, the differences those of x; between them nothing depends on x */
  for (int64_t i = 0; i < c.s.n * c.s.h * c.s.d; i++) {
    const int64_t row = i / (c.s.h * c.s.d), column = i % (c.s.h * c.s.d);
    in_rows_of_x[row * c.shape.ld_x + column] = dx[row * c.shape.ld_y + column];
  }
  compare_derivative("dx", c.x, in_rows_of_x, [&](const Values& x) { return loss(x, c.w); });
  compare_derivative("dw", c.w, dw, [&](const Values& w) { return loss(c.x, w); });
}

/* From rows of q and k alone into rows of q, k and v. */
TEST(dx_in_rows_of_its_own) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : {Shape{5, 8, 128, 256, 0}, Shape{13, 3, 26, 1, 0}, Shape{3, 2, 1024, 0, 0}}) {
      Case c("own rows", s, t);
      Context ctx;
      const int64_t ld = c.shape.ld_y + 24;
      Array x(c.x, t), w(c.w, t), dy(c.dy, t), dx(c.dx0, t), wide(s.n * ld, t, 7), rstd(c.rstd, ORIBI_F32);
      CHECK_OK(ctx, oribi_head_norm_backward(ctx, dx.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, &c.shape));
      c.shape.ld_dx = ld;
      CHECK_OK(ctx, oribi_head_norm_backward(ctx, wide.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, &c.shape));
      bool same = true;
      for (int64_t row = 0; row < s.n; row++) {
        for (int64_t i = 0; i < ld; i++) same &= wide.get(row * ld + i) == (i < s.h * s.d ? dx.get(row * c.shape.ld_y + i) : 7);
      }
      CHECK(same);
      c.shape.ld_dx = s.h * s.d - 1;
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_dx must be at least ",
                   oribi_head_norm_backward(ctx, wide.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, &c.shape));
    }
  }
}

TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    const Shape s{301, 9, 64, 0, 0};
    const Case c("threads", s, t);
    Array first_dx(c.dx0, t), first_dw(c.dw0, ORIBI_F32);
    for (int32_t threads : {1, 2, 3}) {
      Context ctx(threads);
      Array x(c.x, t), w(c.w, t), dy(c.dy, t), dx(c.dx0, t), dw(c.dw0, ORIBI_F32), rstd(c.rstd, ORIBI_F32);
      Array workspace(oribi_head_norm_backward_workspace(s.n, s.h, s.d) / 4, ORIBI_F32);
      CHECK_OK(ctx, oribi_head_norm_backward(ctx, threads == 1 ? first_dx.data() : dx.data(), threads == 1 ? first_dw.f32() : dw.f32(),
                                             rstd.f32(), dy.data(), x.data(), w.data(), workspace.data(), &c.shape));
      CHECK(threads == 1 || (dx.same_bits(first_dx) && dw.same_bits(first_dw)));
    }
  }
}

TEST(not_a_number_stays_in_its_head) {
  Case c("nan", {3, 4, 64, 0, 0}, ORIBI_F32);
  c.x[5 * 64 + 7] = NAN;
  Context ctx;
  Array x(c.x, ORIBI_F32), w(c.w, ORIBI_F32), y(c.x.size(), ORIBI_F32), rstd(12, ORIBI_F32);
  CHECK_OK(ctx, oribi_head_norm_forward(ctx, y.data(), rstd.f32(), x.data(), w.data(), &c.shape));
  for (size_t i = 0; i < c.x.size(); i++) CHECK(std::isnan(y.get(i)) == (i / 64 == 5));
}

TEST(arguments) {
  Context ctx;
  Array a(16, ORIBI_F32, 3), rstd(4, ORIBI_F32, 5);
  void* p = a.data();
  oribi_head_norm_shape s = {2, 2, 4, 8, 8, kEps, ORIBI_F32, ORIBI_NORM_WEIGHT, 0};
  const auto forward = [&] { return oribi_head_norm_forward(ctx, p, rstd.f32(), p, p, &s); };
  s.n = -1;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_head_norm_forward: n must be at least 0, found -1", forward());
  s.n = 2, s.d = 0;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "d must be at least 1, found 0", forward());
  s.d = 4, s.ld_x = 7;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_x must be at least 8, found 7", forward());
  s.ld_x = 8, s.ld_y = 7;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_y must be at least 8, found 7", forward());
  s.ld_y = 8, s.t = static_cast<oribi_dtype>(9);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9, expected ORIBI_F32", forward());
  s.t = ORIBI_F32;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "shape is NULL", oribi_head_norm_forward(ctx, p, rstd.f32(), p, p, nullptr));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "x is NULL", oribi_head_norm_forward(ctx, p, rstd.f32(), nullptr, p, &s));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_head_norm_backward: workspace is NULL",
               oribi_head_norm_backward(ctx, p, rstd.f32(), rstd.f32(), p, p, p, nullptr, &s));
  s.n = 0;
  CHECK_OK(ctx, oribi_head_norm_forward(ctx, nullptr, nullptr, nullptr, nullptr, &s));
  CHECK_OK(ctx, oribi_head_norm_backward(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, &s));
  compare_within("untouched", a.values(), Values(16, 3), 0);
  CHECK(oribi_head_norm_backward_workspace(8, 2, 16) >= 64 && oribi_head_norm_backward_workspace(0, 2, 16) == 0);
}
