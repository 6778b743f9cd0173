#include "optimizer_ref.h"

#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

constexpr int64_t kCounts[] = {1, 13, 113, 1023, 100003};
constexpr oribi_adamw_hyper kHyper = {3e-3, 0.9, 0.999, 1e-8, 0.1, 1};
constexpr float kGradScale = 0.6f;

struct State {
  Values p, m, v;
};

/* The gradients of a step, from 1e-6 to 10 in size. */
Values gradients(int64_t count, int64_t step) {
  Random random(static_cast<uint64_t>(count * 31 + step));
  Values g(count);
  for (double& x : g) x = random.normal() * std::pow(10, random.uniform(-6, 1));
  return rounded(g, ORIBI_F32);
}

template <class Real>
void reference_step(State& state, const Values& g, const oribi_adamw_hyper& hyper) {
  for (size_t i = 0; i < g.size(); i++) {
    Real p = static_cast<Real>(state.p[i]), m = static_cast<Real>(state.m[i]), v = static_cast<Real>(state.v[i]);
    reference::adamw<Real>(p, m, v, static_cast<Real>(g[i]) * static_cast<Real>(kGradScale), hyper);
    state.p[i] = p, state.m[i] = m, state.v[i] = v;
  }
}

void check_steps(int64_t count, oribi_dtype t16) {
  where = "count=" + std::to_string(count) + " " + name_of(t16);
  Random random(static_cast<uint64_t>(count));
  State exact{rounded(random.normals(count, 0.1, 1), ORIBI_F32), Values(count, 0.0), Values(count, 0.0)}, plain = exact;
  Array p(exact.p, ORIBI_F32), m(count, ORIBI_F32), v(count, ORIBI_F32), p16(count, t16, 7);
  Context ctx(2);
  oribi_adamw_hyper hyper = kHyper;
  for (hyper.step = 1; hyper.step <= 5; hyper.step++) {
    const Values step_gradients = gradients(count, hyper.step);
    Array g(step_gradients, ORIBI_F32);
    CHECK_OK(ctx, oribi_adamw(ctx, p.f32(), p16.data(), m.f32(), v.f32(), g.f32(), &kGradScale, &hyper, count, t16));
    reference_step<double>(exact, step_gradients, hyper);
    reference_step<float>(plain, step_gradients, hyper);
    compare("p", p.values(), exact.p, plain.p, ORIBI_F32);
    compare("m", m.values(), exact.m, plain.m, ORIBI_F32);
    compare("v", v.values(), exact.v, plain.v, ORIBI_F32);
    compare_within("p16", p16.values(), rounded(p.values(), t16), 0);
  }
}

}  // namespace

TEST(adamw) {
  for (oribi_dtype t : kDtypes)
    for (int64_t count : kCounts) check_steps(count, t);
}

/* By hand, each hyperparameter different: step 1 from m = v = 0 moves p by the rate, whatever the gradient's size. */
TEST(adamw_first_step) {
  where = "first step";
  Context ctx;
  const oribi_adamw_hyper hyper = {0.25, 0.8, 0.9, 0.5, 0.4, 1};
  Array p(Values{2}, ORIBI_F32), m(1, ORIBI_F32), v(1, ORIBI_F32), g(Values{1.5}, ORIBI_F32);
  CHECK_OK(ctx, oribi_adamw(ctx, p.f32(), nullptr, m.f32(), v.f32(), g.f32(), nullptr, &hyper, 1, ORIBI_F32));
  compare_within("m", m.values(), {0.3}, 1e-7);    /* (1 - 0.8) * 1.5 */
  compare_within("v", v.values(), {0.225}, 1e-7);  /* (1 - 0.9) * 1.5^2 */
  compare_within("p", p.values(), {2 * 0.9 - 0.25 * 1.5 / (1.5 + 0.5)}, 3e-7);
}

TEST(sums) {
  for (int64_t count : kCounts) {
    where = "count=" + std::to_string(count);
    Random random(static_cast<uint64_t>(count));
    const Values values = rounded(random.normals(count, 0.4, 3), ORIBI_F32);
    long double sum = 0, squares = 0, size = 0;
    for (double x : values) sum += x, squares += static_cast<long double>(x) * x, size += std::fabs(x);
    Array x(values, ORIBI_F32), workspace(oribi_sum_workspace(count) / 4, ORIBI_F32, NAN);
    Values first;
    for (int32_t threads : {1, 2, 3}) {
      Context ctx(threads);
      Values out{100, 100, 100, 100};
      CHECK_OK(ctx, oribi_sum(ctx, &out[0], x.f32(), workspace.data(), count, 0));
      CHECK_OK(ctx, oribi_sum(ctx, &out[1], x.f32(), workspace.data(), count, 1));
      CHECK_OK(ctx, oribi_sum_squares(ctx, &out[2], x.f32(), workspace.data(), count, 0));
      CHECK_OK(ctx, oribi_sum_squares(ctx, &out[3], x.f32(), workspace.data(), count, 1));
      const double expected[] = {static_cast<double>(sum), static_cast<double>(sum + 100), static_cast<double>(squares),
                                 static_cast<double>(squares + 100)};
      compare_within("sums", out, Values(expected, expected + 4), 1e-13 * static_cast<double>(size + squares + 100));
      if (threads == 1) first = out;
      CHECK(std::memcmp(first.data(), out.data(), sizeof(double) * 4) == 0);
    }
  }
  Context ctx;
  double none = 5;
  CHECK_OK(ctx, oribi_sum(ctx, &none, nullptr, nullptr, 0, 1));
  CHECK(none == 5);
}

/* Half a million ones after 1e8: fp32 sums would lose every one of them. */
TEST(sum_keeps_small_terms) {
  where = "small terms";
  Context ctx;
  Array x(500001, ORIBI_F32, 1), workspace(oribi_sum_workspace(500001) / 4, ORIBI_F32);
  x.set(0, 1e8);
  double out = 0;
  CHECK_OK(ctx, oribi_sum(ctx, &out, x.f32(), workspace.data(), 500001, 0));
  CHECK(out == 1e8 + 500000);
}

TEST(clip_scale) {
  where = "clip";
  Context ctx;
  const auto clip = [&ctx](double squares, float max_norm) {
    float scale = 7, norm = 7;
    CHECK_OK(ctx, oribi_clip_scale(ctx, &scale, &norm, &squares, max_norm));
    return Values{scale, norm};
  };
  compare_within("clipped", clip(25, 1), {1 / (5 + 1e-6), 5}, 1e-7);
  compare_within("within", clip(25, 6), {1, 5}, 0);
  compare_within("off", clip(25, 0), {1, 5}, 0);
  compare_within("zero", clip(0, 1), {1, 0}, 0);
  compare_within("infinite", clip(INFINITY, 1), {0, INFINITY}, 0);
  compare_within("not a number", clip(NAN, 1), {NAN, NAN}, 0);
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array a(8, ORIBI_F32, 3);
  const auto adamw = [&](const oribi_adamw_hyper& hyper, float* p) {
    return oribi_adamw(ctx, p, nullptr, a.f32(), a.f32(), a.f32(), nullptr, &hyper, 8, ORIBI_F32);
  };
  oribi_adamw_hyper hyper = kHyper;
  hyper.step = 0;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "hyper.step must be at least 1, found 0", adamw(hyper, a.f32()));
  hyper = kHyper;
  hyper.beta2 = 1;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "beta2 must be in [0, 1), found 1", adamw(hyper, a.f32()));
  hyper = kHyper;
  hyper.learning_rate = NAN;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "learning_rate must not be negative", adamw(hyper, a.f32()));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "p is NULL", adamw(kHyper, nullptr));
  double out = 0;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL", oribi_sum(ctx, &out, a.f32(), nullptr, 8, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "count must be at least 0, found -1",
               oribi_sum_squares(ctx, &out, a.f32(), a.data(), -1, 0));
}
