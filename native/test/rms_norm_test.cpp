#include "check.h"
#include "rms_norm_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, c;
};
/* Awkward ones, then the widths of SmolLM2 135M, Llama 3.2 1B, Llama 3 8B and wider: on a GPU each is a row of 32 to 512
   threads in registers, or, from 16384 on or with odd widths, of a loop. */
constexpr Shape kShapes[] = {{1, 1},     {13, 1},    {1, 13},   {13, 113},  {113, 13},  {113, 1023}, {1023, 113},
                             {301, 576}, {7, 2048},  {5, 4096}, {11, 5120}, {5, 8192},  {3, 14336},  {2, 20000}};
constexpr float kEps = 1e-5f;

void begin_case(const char* name, Shape s, oribi_dtype t) {
  where = std::string(name) + " n=" + std::to_string(s.n) + " c=" + std::to_string(s.c) + " " + name_of(t);
}

double identity(double x) { return x; }

constexpr oribi_norm_weight kWeights[] = {ORIBI_NORM_WEIGHT, ORIBI_NORM_ONE_PLUS_WEIGHT};

/* What the definition multiplies by, as Real computes it. */
template <class Real>
Values factors(const Values& w, oribi_norm_weight weight) {
  Values all(w);
  for (double& x : all) x = weight == ORIBI_NORM_ONE_PLUS_WEIGHT ? Real(1) + Real(x) : Real(x);
  return all;
}

/* The plain implementation: what Llama's reference rounds before the product, Gemma's does not. */
void plain_forward(Values& y, Values& rstd, const Values& x, const Values& w, Shape s, oribi_norm_weight weight, oribi_dtype t) {
  const bool rounds = weight == ORIBI_NORM_WEIGHT;
  reference::rms_norm_forward<float>(y, rstd, x, factors<float>(w, weight), s.n, s.c, kEps,
                                     [=](double v) { return rounds ? round_to(v, t) : v; });
}

struct Data {
  Values x, delta, w, dy, dx0, dw0;
  Data(Shape s, oribi_dtype t) {
    Random random(static_cast<uint64_t>(s.n * 10007 + s.c));
    x = rounded(random.normals(s.n * s.c, 0.3, 1.7), t);
    delta = rounded(random.normals(s.n * s.c, -0.1, 0.6), t);
    w = rounded(random.normals(s.c, 0.8, 0.5), t);
    dy = rounded(random.normals(s.n * s.c, 0.05, 0.9), t);
    dx0 = rounded(random.normals(s.n * s.c, 0, 2), t);
    dw0 = rounded(random.normals(s.c, 0, 3), ORIBI_F32);
  }
};

void check_forward(Shape s, oribi_dtype t, oribi_norm_weight weight) {
  begin_case(weight == ORIBI_NORM_WEIGHT ? "forward" : "forward 1+w", s, t);
  const Data data(s, t);
  Context ctx;
  Array x(data.x, t), w(data.w, t), y(s.n * s.c, t, 7), rstd(s.n, ORIBI_F32, 7);
  CHECK_OK(ctx, oribi_rms_norm_forward(ctx, y.data(), rstd.f32(), x.data(), w.data(), s.n, s.c, kEps, weight, t));
  Values exact_y, exact_rstd, plain_y, plain_rstd;
  reference::rms_norm_forward<double>(exact_y, exact_rstd, data.x, factors<double>(data.w, weight), s.n, s.c, kEps, identity);
  plain_forward(plain_y, plain_rstd, data.x, data.w, s, weight, t);
  compare("y", y.values(), exact_y, rounded(plain_y, t), t);
  compare("rstd", rstd.values(), exact_rstd, plain_rstd, ORIBI_F32);
}

void check_add_forward(Shape s, oribi_dtype t, bool in_place, oribi_norm_weight weight) {
  begin_case(in_place ? "add in place" : "add", s, t);
  const Data data(s, t);
  Context ctx;
  Array x(data.x, t), delta(data.delta, t), w(data.w, t), r(s.n * s.c, t, 7), y(s.n * s.c, t, 7), rstd(s.n, ORIBI_F32, 7);
  Array& sum = in_place ? x : r;
  CHECK_OK(ctx, oribi_add_rms_norm_forward(ctx, sum.data(), y.data(), rstd.f32(), x.data(), delta.data(), w.data(), s.n,
                                           s.c, kEps, weight, t));
  Values expected(data.x);
  for (size_t i = 0; i < expected.size(); i++) expected[i] = round_to(data.x[i] + data.delta[i], t);
  compare_within("r", sum.values(), expected, 0);
  Values exact_y, exact_rstd, plain_y, plain_rstd;
  reference::rms_norm_forward<double>(exact_y, exact_rstd, expected, factors<double>(data.w, weight), s.n, s.c, kEps, identity);
  plain_forward(plain_y, plain_rstd, expected, data.w, s, weight, t);
  compare("y", y.values(), exact_y, rounded(plain_y, t), t);
  compare("rstd", rstd.values(), exact_rstd, plain_rstd, ORIBI_F32);
}

void check_backward(Shape s, oribi_dtype t, bool accumulate, bool with_dw, oribi_norm_weight weight) {
  begin_case(accumulate ? "backward accumulate" : "backward", s, t);
  const Data data(s, t);
  Values y, rstd_values;
  reference::rms_norm_forward<double>(y, rstd_values, data.x, data.w, s.n, s.c, kEps, identity);
  rstd_values = rounded(rstd_values, ORIBI_F32);
  Context ctx;
  Array x(data.x, t), w(data.w, t), dy(data.dy, t), rstd(rstd_values, ORIBI_F32), dx(data.dx0, t), dw(data.dw0, ORIBI_F32);
  Array workspace(oribi_rms_norm_backward_workspace(s.n, s.c) / 4, ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_rms_norm_backward(ctx, dx.data(), with_dw ? dw.f32() : nullptr, rstd.f32(), dy.data(), x.data(),
                                        w.data(), with_dw ? workspace.data() : nullptr, s.n, s.c, accumulate, weight, t));
  Values exact_dx, plain_dx, exact_dw(data.dw0), plain_dw(data.dw0);
  reference::rms_norm_backward<double>(exact_dx, exact_dw, rstd_values, data.dy, data.x, factors<double>(data.w, weight), s.n, s.c);
  reference::rms_norm_backward<float>(plain_dx, plain_dw, rstd_values, data.dy, data.x, factors<float>(data.w, weight), s.n, s.c);
  for (size_t i = 0; accumulate && i < exact_dx.size(); i++) {
    exact_dx[i] += data.dx0[i];
    plain_dx[i] = static_cast<float>(plain_dx[i]) + static_cast<float>(data.dx0[i]);
  }
  double dx_term = 0, dw_term = largest(data.dw0);
  for (int64_t i = 0; i < s.n * s.c; i++) {
    dx_term = std::fmax(dx_term, std::fabs(rstd_values[i / s.c] * data.dy[i] * (std::fabs(data.w[i % s.c]) + (weight == ORIBI_NORM_WEIGHT ? 0 : 1))));
    dw_term = std::fmax(dw_term, std::fabs(rstd_values[i / s.c] * data.dy[i] * data.x[i]));
  }
  compare("dx", dx.values(), exact_dx, rounded(plain_dx, t), t, dx_term);
  if (with_dw) {
    compare("dw", dw.values(), exact_dw, plain_dw, ORIBI_F32, dw_term);
  } else {
    compare_within("dw", dw.values(), data.dw0, 0);
  }
}

}  // namespace

TEST(forward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      for (oribi_norm_weight weight : kWeights) check_forward(s, t, weight);
    }
  }
}

TEST(add_forward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      for (oribi_norm_weight weight : kWeights) {
        check_add_forward(s, t, false, weight);
        check_add_forward(s, t, true, weight);
      }
    }
  }
}

TEST(backward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      for (oribi_norm_weight weight : kWeights) {
        check_backward(s, t, false, true, weight);
        check_backward(s, t, true, true, weight);
        check_backward(s, t, false, false, weight);
      }
    }
  }
}

TEST(backward_in_place) {
  const Shape s{13, 113};
  const Data data(s, ORIBI_BF16);
  Context ctx;
  Array x(data.x, ORIBI_BF16), w(data.w, ORIBI_BF16), dy(data.dy, ORIBI_BF16), dx(s.n * s.c, ORIBI_BF16, 7);
  Array rstd(s.n, ORIBI_F32, 0.7);
  CHECK_OK(ctx, oribi_rms_norm_backward(ctx, dx.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, s.n,
                                        s.c, 0, ORIBI_NORM_WEIGHT, ORIBI_BF16));
  CHECK_OK(ctx, oribi_rms_norm_backward(ctx, dy.data(), nullptr, rstd.f32(), dy.data(), x.data(), w.data(), nullptr, s.n,
                                        s.c, 0, ORIBI_NORM_WEIGHT, ORIBI_BF16));
  CHECK(dy.same_bits(dx));
}

TEST(reference_backward_by_finite_differences) {
  const Shape s{3, 7};
  const Data data(s, ORIBI_F32);
  Values y, rstd, dx, dw(s.c, 0.0);
  reference::rms_norm_forward<double>(y, rstd, data.x, data.w, s.n, s.c, kEps, identity);
  reference::rms_norm_backward<double>(dx, dw, rstd, data.dy, data.x, data.w, s.n, s.c);
  auto loss = [&](const Values& x, const Values& w) {
    Values out, scale;
    reference::rms_norm_forward<double>(out, scale, x, w, s.n, s.c, kEps, identity);
    double sum = 0;
    for (size_t i = 0; i < out.size(); i++) sum += out[i] * data.dy[i];
    return sum;
  };
  compare_derivative("dx", data.x, dx, [&](const Values& x) { return loss(x, data.w); });
  compare_derivative("dw", data.w, dw, [&](const Values& w) { return loss(data.x, w); });
}

TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    const Shape s{1023, 113};
    const Data data(s, t);
    Array first_dx(s.n * s.c, t), first_dw(data.dw0, ORIBI_F32);
    for (int32_t threads : {1, 2, 3}) {
      Context ctx(threads);
      CHECK(oribi_ctx_threads(ctx) == threads);
      Array x(data.x, t), w(data.w, t), dy(data.dy, t), dx(s.n * s.c, t), dw(data.dw0, ORIBI_F32), rstd(s.n, ORIBI_F32, 0.7);
      Array workspace(oribi_rms_norm_backward_workspace(s.n, s.c) / 4, ORIBI_F32);
      CHECK_OK(ctx, oribi_rms_norm_backward(ctx, threads == 1 ? first_dx.data() : dx.data(),
                                            threads == 1 ? first_dw.f32() : dw.f32(), rstd.f32(), dy.data(), x.data(),
                                            w.data(), workspace.data(), s.n, s.c, 0, ORIBI_NORM_WEIGHT, t));
      CHECK(threads == 1 || (dx.same_bits(first_dx) && dw.same_bits(first_dw)));
    }
  }
}

TEST(not_a_number_stays_in_its_row) {
  const Shape s{3, 113};
  Data data(s, ORIBI_F32);
  data.x[s.c + 5] = NAN;
  Context ctx;
  Array x(data.x, ORIBI_F32), w(data.w, ORIBI_F32), y(s.n * s.c, ORIBI_F32), rstd(s.n, ORIBI_F32);
  CHECK_OK(ctx, oribi_rms_norm_forward(ctx, y.data(), rstd.f32(), x.data(), w.data(), s.n, s.c, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  for (int64_t i = 0; i < s.n * s.c; i++) CHECK(std::isnan(y.get(i)) == (i / s.c == 1));
}

TEST(arguments) {
  Context ctx;
  Array a(8, ORIBI_F32, 3), rstd(2, ORIBI_F32, 5);
  void* p = a.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "weight is 2, expected ORIBI_NORM_WEIGHT",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), p, p, 2, 4, kEps, static_cast<oribi_norm_weight>(2), ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_rms_norm_forward: n must be at least 0, found -1",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), p, p, -1, 4, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "c must be at least 1, found 0",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), p, p, 2, 0, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "more than memory",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), p, p, INT64_MAX, INT64_MAX, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "x is NULL, expected 8 elements",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), nullptr, p, 2, 4, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 9, expected ORIBI_F32",
               oribi_rms_norm_forward(ctx, p, rstd.f32(), p, p, 2, 4, kEps, ORIBI_NORM_WEIGHT, static_cast<oribi_dtype>(9)));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL",
               oribi_rms_norm_backward(ctx, p, rstd.f32(), rstd.f32(), p, p, p, nullptr, 2, 4, 0, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "dx may be dy only when accumulate is 0",
               oribi_rms_norm_backward(ctx, p, nullptr, rstd.f32(), p, p, p, nullptr, 2, 4, 1, ORIBI_NORM_WEIGHT, ORIBI_F32));
  CHECK(oribi_rms_norm_forward(nullptr, p, rstd.f32(), p, p, 2, 4, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32) == ORIBI_INVALID_ARGUMENT);
  CHECK_OK(ctx, oribi_rms_norm_forward(ctx, nullptr, nullptr, nullptr, nullptr, 0, 4, kEps, ORIBI_NORM_WEIGHT, ORIBI_F32));
  compare_within("untouched", a.values(), Values(8, 3), 0);
}
