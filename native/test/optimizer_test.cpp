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
    Plain<float> grad_scale{kGradScale};
    Plain<oribi_adamw_hyper> numbers{hyper};
    CHECK_OK(ctx, oribi_adamw(ctx, p.f32(), p16.data(), m.f32(), v.f32(), g.f32(), grad_scale.data(), numbers.data(), count, t16));
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
  Plain<oribi_adamw_hyper> hyper{{0.25, 0.8, 0.9, 0.5, 0.4, 1}};
  Array p(Values{2}, ORIBI_F32), m(1, ORIBI_F32), v(1, ORIBI_F32), g(Values{1.5}, ORIBI_F32);
  CHECK_OK(ctx, oribi_adamw(ctx, p.f32(), nullptr, m.f32(), v.f32(), g.f32(), nullptr, hyper.data(), 1, ORIBI_F32));
  compare_within("m", m.values(), {0.3}, 1e-7);    /* (1 - 0.8) * 1.5 */
  compare_within("v", v.values(), {0.225}, 1e-7);  /* (1 - 0.9) * 1.5^2 */
  compare_within("p", p.values(), {2 * 0.9 - 0.25 * 1.5 / (1.5 + 0.5)}, 3e-7);
}

/* ---------------------------------------------------------------------------------------------------- 8-bit moments */

namespace {

/* The state of adamw8 in the device's memory, and its moments as numbers. */
struct State8 {
  int64_t count, blocks;
  Plain<uint8_t> m8, v8;
  Plain<float> m_max, v_max;

  explicit State8(int64_t n) : count(n), blocks((n + 255) / 256), m8(n, 127), v8(n, 0), m_max(blocks, 0.0f), v_max(blocks, 0.0f) {}

  oribi_status step(oribi_ctx* ctx, Array& p, Array* p16, Array& g, const oribi_adamw_hyper& hyper, oribi_dtype t16) {
    Plain<float> grad_scale{kGradScale};
    Plain<oribi_adamw_hyper> numbers{hyper};
    return oribi_adamw8(ctx, p.f32(), p16 == nullptr ? nullptr : p16->data(), m8.data(), v8.data(), m_max.data(), v_max.data(),
                        g.f32(), grad_scale.data(), numbers.data(), count, t16);
  }
  Values moments(const Plain<uint8_t>& codes, const Plain<float>& largest, const float* map) const {
    const std::vector<uint8_t> code = codes.values();
    const std::vector<float> max = largest.values();
    Values all(count);
    for (int64_t i = 0; i < count; i++) all[i] = map[code[i]] * max[i / 256];
    return all;
  }
  Values m() const { return moments(m8, m_max, oribi_dynamic_map_signed()); }
  Values v() const { return moments(v8, v_max, oribi_dynamic_map_unsigned()); }
  bool operator==(const State8& other) const {
    return m8.values() == other.m8.values() && v8.values() == other.v8.values() && m_max.values() == other.m_max.values() &&
           v_max.values() == other.v_max.values();
  }
};

/* Stored moments against the exact ones: maxima to fp32's rounding, codes the nearest, the sign kept. */
void check_moments(const State8& state, const State& exact) {
  const std::vector<uint8_t> m8 = state.m8.values(), v8 = state.v8.values();
  for (int64_t block = 0; block < state.blocks; block++) {
    const int64_t begin = block * 256, end = std::min(begin + 256, state.count);
    double m_max = 0, v_max = 0;
    for (int64_t i = begin; i < end; i++) m_max = std::fmax(m_max, std::fabs(exact.m[i])), v_max = std::fmax(v_max, exact.v[i]);
    CHECK(std::fabs(state.m_max.get(block) - m_max) <= 1e-6 * m_max && std::fabs(state.v_max.get(block) - v_max) <= 1e-6 * v_max);
    for (int64_t i = begin; i < end; i++) {
      const bool turned = exact.m[i] < 0 ? m8[i] == 126 : m8[i] == 128;
      CHECK(turned || reference::is_nearest(oribi_dynamic_map_signed(), m8[i], exact.m[i] / m_max, 1e-6));
      CHECK(exact.m[i] == 0 || (m8[i] >= 127) == (exact.m[i] > 0));
      CHECK(reference::is_nearest(oribi_dynamic_map_unsigned(), v8[i], exact.v[i] / v_max, 1e-6));
    }
  }
}

void check_steps8(int64_t count, oribi_dtype t16) {
  where = "8 bits, count=" + std::to_string(count) + " " + name_of(t16);
  Random random(static_cast<uint64_t>(count));
  Array p(random.normals(count, 0.1, 1), ORIBI_F32), p16(count, t16, 7);
  State8 state(count);
  Context ctx(2);
  oribi_adamw_hyper hyper = kHyper;
  for (hyper.step = 1; hyper.step <= 4; hyper.step++) {
    const Values step_gradients = gradients(count, hyper.step);
    State exact{p.values(), state.m(), state.v()}, plain = exact; /* each step from the stored moments */
    Array g(step_gradients, ORIBI_F32);
    CHECK_OK(ctx, state.step(ctx, p, &p16, g, hyper, t16));
    reference_step<double>(exact, step_gradients, hyper);
    reference_step<float>(plain, step_gradients, hyper);
    compare("p", p.values(), exact.p, plain.p, ORIBI_F32);
    compare_within("p16", p16.values(), rounded(p.values(), t16), 0);
    check_moments(state, exact);
  }
}

}  // namespace

TEST(adamw8) {
  for (oribi_dtype t : kDtypes)
    for (int64_t count : {1, 13, 256, 257, 1023, 4096, 33001}) check_steps8(count, t);
}

/* 100 steps towards a target under noise: 8-bit moments end where fp32 ones do, within a few percent of the way. */
TEST(adamw8_stays_close_to_adamw) {
  where = "100 steps";
  const int64_t count = 4096;
  Random random(8);
  const Values target = random.normals(count, 0, 1);
  Array p(count, ORIBI_F32), m(count, ORIBI_F32), v(count, ORIBI_F32), p8(count, ORIBI_F32);
  State8 state(count);
  Context ctx;
  oribi_adamw_hyper hyper = {1e-2, 0.9, 0.999, 1e-8, 0.01, 1};
  Plain<float> grad_scale{kGradScale};
  for (hyper.step = 1; hyper.step <= 100; hyper.step++) {
    const Values noise = random.normals(count, 0, 0.3), here = p.values(), here8 = p8.values();
    Values g(count), g8(count);
    for (int64_t i = 0; i < count; i++) {
      g[i] = here[i] - target[i] + noise[i];
      g8[i] = here8[i] - target[i] + noise[i];
    }
    Array gradient(g, ORIBI_F32), gradient8(g8, ORIBI_F32);
    Plain<oribi_adamw_hyper> numbers{hyper};
    CHECK_OK(ctx, oribi_adamw(ctx, p.f32(), nullptr, m.f32(), v.f32(), gradient.f32(), grad_scale.data(), numbers.data(), count, ORIBI_F32));
    CHECK_OK(ctx, state.step(ctx, p8, nullptr, gradient8, hyper, ORIBI_F32));
  }
  double way = 0, apart = 0;
  for (int64_t i = 0; i < count; i++) way += std::fabs(p.get(i)), apart += std::fabs(p8.get(i) - p.get(i));
  std::printf("  8-bit moments: %.3f %% of the way apart\n", 100 * apart / way);
  CHECK(apart <= 0.03 * way);
}

/* A gradient that is not finite costs its element the moments and nothing else. */
TEST(adamw8_passes_over_what_is_not_finite) {
  where = "not finite";
  const int64_t count = 300;
  Random random(9);
  const Values start = random.normals(count), good = random.normals(count);
  Values bad = good;
  bad[5] = NAN, bad[299] = -INFINITY;
  Array p(start, ORIBI_F32), q(start, ORIBI_F32), g(good, ORIBI_F32), h(bad, ORIBI_F32);
  State8 state(count), other(count);
  Context ctx;
  CHECK_OK(ctx, state.step(ctx, p, nullptr, g, kHyper, ORIBI_F32));
  CHECK_OK(ctx, other.step(ctx, q, nullptr, h, kHyper, ORIBI_F32));
  const Values m = other.m(), v = other.v();
  for (int64_t i = 0; i < count; i++) {
    const bool passed = i == 5 || i == 299;
    CHECK(passed ? q.get(i) == static_cast<float>(start[i]) && m[i] == 0 && v[i] == 0 : q.get(i) == p.get(i));
  }
}

TEST(adamw8_same_bits_every_time) {
  where = "same bits";
  const int64_t count = 33001;
  State8 first(count);
  Array first_p(count, ORIBI_F32, 1);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    State8 again(count);
    Array p(count, ORIBI_F32, 1), g(gradients(count, 1), ORIBI_F32);
    CHECK_OK(ctx, (threads == 1 ? first : again).step(ctx, threads == 1 ? first_p : p, nullptr, g, kHyper, ORIBI_F32));
    CHECK(threads == 1 || (again == first && p.same_bits(first_p)));
  }
}

/* --------------------------------------------------------------------------------------------------------------- sums */

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
      Plain<double> out(4, 100.0);
      CHECK_OK(ctx, oribi_sum(ctx, out.data(), x.f32(), workspace.data(), count, 0));
      CHECK_OK(ctx, oribi_sum(ctx, out.data() + 1, x.f32(), workspace.data(), count, 1));
      CHECK_OK(ctx, oribi_sum_squares(ctx, out.data() + 2, x.f32(), workspace.data(), count, 0));
      CHECK_OK(ctx, oribi_sum_squares(ctx, out.data() + 3, x.f32(), workspace.data(), count, 1));
      const double expected[] = {static_cast<double>(sum), static_cast<double>(sum + 100), static_cast<double>(squares),
                                 static_cast<double>(squares + 100)};
      const Values found = out.values();
      compare_within("sums", found, Values(expected, expected + 4), 1e-13 * static_cast<double>(size + squares + 100));
      if (threads == 1) first = found;
      CHECK(std::memcmp(first.data(), found.data(), sizeof(double) * 4) == 0);
    }
  }
  Context ctx;
  Plain<double> none{5, 5};
  CHECK_OK(ctx, oribi_sum(ctx, none.data(), nullptr, nullptr, 0, 1));
  CHECK_OK(ctx, oribi_sum_squares(ctx, none.data() + 1, nullptr, nullptr, 0, 0));
  CHECK(none.get(0) == 5 && none.get(1) == 0);
}

/* Half a million ones after 1e8: fp32 sums would lose every one of them. */
TEST(sum_keeps_small_terms) {
  where = "small terms";
  Context ctx;
  Array x(500001, ORIBI_F32, 1), workspace(oribi_sum_workspace(500001) / 4, ORIBI_F32);
  x.set(0, 1e8);
  Plain<double> out{0};
  CHECK_OK(ctx, oribi_sum(ctx, out.data(), x.f32(), workspace.data(), 500001, 0));
  CHECK(out.get(0) == 1e8 + 500000);
}

TEST(clip_scale) {
  where = "clip";
  Context ctx;
  const auto clip = [&ctx](double squares, float max_norm) {
    Plain<float> scale{7}, norm{7};
    Plain<double> sum{squares};
    CHECK_OK(ctx, oribi_clip_scale(ctx, scale.data(), norm.data(), sum.data(), max_norm));
    return Values{scale.get(0), norm.get(0)};
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
  State8 state(8);
  const auto adamw = [&](const oribi_adamw_hyper& hyper, float* p) {
    Plain<oribi_adamw_hyper> numbers{hyper};
    return oribi_adamw(ctx, p, nullptr, a.f32(), a.f32(), a.f32(), nullptr, numbers.data(), 8, ORIBI_F32);
  };
#ifndef ORIBI_TEST_CUDA /* a card reads the hyperparameters when the host has long gone on */
  oribi_adamw_hyper hyper = kHyper;
  hyper.step = 0;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "hyper.step must be at least 1, found 0", adamw(hyper, a.f32()));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "hyper.step must be at least 1, found 0", state.step(ctx, a, nullptr, a, hyper, ORIBI_F32));
  hyper = kHyper;
  hyper.beta2 = 1;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "beta2 must be in [0, 1), found 1", adamw(hyper, a.f32()));
  hyper = kHyper;
  hyper.learning_rate = NAN;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "learning_rate must not be negative", adamw(hyper, a.f32()));
#endif
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "p is NULL", adamw(kHyper, nullptr));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "hyper is NULL",
               oribi_adamw(ctx, a.f32(), nullptr, a.f32(), a.f32(), a.f32(), nullptr, nullptr, 8, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t16 is 9", state.step(ctx, a, nullptr, a, kHyper, static_cast<oribi_dtype>(9)));
  Plain<oribi_adamw_hyper> numbers{kHyper};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "m_max is NULL",
               oribi_adamw8(ctx, a.f32(), nullptr, state.m8.data(), state.v8.data(), nullptr, state.v_max.data(), a.f32(), nullptr,
                            numbers.data(), 8, ORIBI_F32));
  Plain<double> out{0};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL", oribi_sum(ctx, out.data(), a.f32(), nullptr, 8, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "count must be at least 0, found -1",
               oribi_sum_squares(ctx, out.data(), a.f32(), a.data(), -1, 0));
}
