#include "check.h"
#include "glu_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, f;
};
/* Awkward ones, then the widths of SmolLM2 135M and Llama 3.2 1B. */
constexpr Shape kShapes[] = {{1, 1}, {13, 1}, {1, 13}, {113, 13}, {13, 113}, {3, 1023}, {1023, 3}, {5, 1536}, {3, 8192}};
constexpr oribi_activation kActivations[] = {ORIBI_SILU, ORIBI_GELU_TANH, ORIBI_GELU_ERF};
const char* const kNames[] = {"silu", "gelu_tanh", "gelu_erf"};

double identity(double x) { return x; }

/* The backward pass with each choice of places: f is the forward pass's to the bit and dgu the same, with f or without. */
void check_f_again(oribi_ctx* ctx, Shape s, oribi_activation act, oribi_dtype t, const Values& gu_values, const Values& df_values,
                   const Array& f, const Array& dgu) {
  for (const bool dgu_is_gu : {false, true}) {
    for (const int place_of_f : {0, 1, 2}) { /* nowhere, an array of its own, df's */
      Array gu(gu_values, t), df(df_values, t), other_dgu(2 * s.n * s.f, t, 9), other_f(s.n * s.f, t, 9);
      Array &to_dgu = dgu_is_gu ? gu : other_dgu, &to_f = place_of_f == 2 ? df : other_f;
      CHECK_OK(ctx, oribi_glu_backward(ctx, to_dgu.data(), place_of_f == 0 ? nullptr : to_f.data(), df.data(), gu.data(), s.n,
                                       s.f, act, t));
      CHECK(to_dgu.same_bits(dgu));
      CHECK(place_of_f == 0 || to_f.same_bits(f));
      if (!dgu_is_gu) compare_within("gu, an input", gu.values(), gu_values, 0);
      if (place_of_f != 2) compare_within("df, an input", df.values(), df_values, 0);
    }
  }
}

void check_case(Shape s, oribi_activation act, oribi_dtype t) {
  where = std::string(kNames[act]) + " n=" + std::to_string(s.n) + " f=" + std::to_string(s.f) + " " + name_of(t);
  Random random(static_cast<uint64_t>(s.n * 1009 + s.f));
  const Values gu_values = rounded(random.normals(2 * s.n * s.f, 0.2, 2.5), t);
  const Values df_values = rounded(random.normals(s.n * s.f, 0.1, 0.8), t);
  const auto round = [t](double v) { return round_to(v, t); };
  Context ctx;
  Array gu(gu_values, t), df(df_values, t), f(s.n * s.f, t, 7), dgu(2 * s.n * s.f, t, 7);
  CHECK_OK(ctx, oribi_glu_forward(ctx, f.data(), gu.data(), s.n, s.f, act, t));
  compare("f", f.values(), reference::glu_forward<double>(gu_values, s.n, s.f, act, identity),
          rounded(reference::glu_forward<float>(gu_values, s.n, s.f, act, round), t), t);
  CHECK_OK(ctx, oribi_glu_backward(ctx, dgu.data(), nullptr, df.data(), gu.data(), s.n, s.f, act, t));
  compare("dgu", dgu.values(), reference::glu_backward<double>(df_values, gu_values, s.n, s.f, act, identity),
          rounded(reference::glu_backward<float>(df_values, gu_values, s.n, s.f, act, round), t), t);
  check_f_again(ctx, s, act, t, gu_values, df_values, f, dgu);
}

}  // namespace

TEST(forward_and_backward) {
  for (oribi_dtype t : kDtypes) {
    for (oribi_activation act : kActivations) {
      for (Shape s : kShapes) check_case(s, act, t);
    }
  }
}

TEST(reference_backward_by_finite_differences) {
  const int64_t n = 3, f = 5;
  Random random(5);
  const Values gu = random.normals(2 * n * f, 0.2, 1.5), df = random.normals(n * f);
  for (oribi_activation act : kActivations) {
    where = kNames[act];
    compare_derivative("dgu", gu, reference::glu_backward<double>(df, gu, n, f, act, identity), [&](const Values& x) {
      const Values y = reference::glu_forward<double>(x, n, f, act, identity);
      double sum = 0;
      for (size_t i = 0; i < y.size(); i++) sum += y[i] * df[i];
      return sum;
    });
  }
}

/* Saturated gates: act is 0 or x, act' is 0 or 1; NaN and infinity arrive where they belong. */
TEST(extreme_gates) {
  Context ctx;
  for (oribi_activation act : kActivations) {
    where = kNames[act];
    const Values gates = {-1e30, -200, -1e-30, 0, 1e-30, 200, 1e30, INFINITY, NAN};
    const int64_t f = static_cast<int64_t>(gates.size());
    Values gu_values(gates);
    gu_values.resize(2 * f, 1.0);
    Array gu(gu_values, ORIBI_F32), out(f, ORIBI_F32), df(f, ORIBI_F32, 1), dgu(2 * f, ORIBI_F32);
    CHECK_OK(ctx, oribi_glu_forward(ctx, out.data(), gu.data(), 1, f, act, ORIBI_F32));
    for (int64_t i = 0; i < f; i++) {
      const double expected = gates[i] < -100 ? 0 : std::fabs(gates[i]) < 1 ? gates[i] / 2 : gates[i];
      CHECK(std::isnan(expected) ? std::isnan(out.get(i)) : std::fabs(out.get(i) - static_cast<float>(expected)) == 0 || out.get(i) == expected);
    }
    Array again(f, ORIBI_F32);
    CHECK_OK(ctx, oribi_glu_backward(ctx, dgu.data(), again.data(), df.data(), gu.data(), 1, f, act, ORIBI_F32));
    compare_within("f again", again.values(), out.values(), 0); /* whose NaN a product takes is the compiler's choice */
    compare_within("dgate", {dgu.get(0), dgu.get(1), dgu.get(3), dgu.get(5), dgu.get(6)}, {0, 0, 0.5, 1, 1}, 1e-6);
    CHECK(std::isnan(dgu.get(8)));
  }
}

TEST(same_bits_for_any_number_of_threads) {
  const int64_t n = 1023, f = 113;
  Random random(9);
  const Values gu_values = random.normals(2 * n * f);
  Array gu(gu_values, ORIBI_BF16), first(n * f, ORIBI_BF16);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array f_out(n * f, ORIBI_BF16);
    CHECK_OK(ctx, oribi_glu_forward(ctx, threads == 1 ? first.data() : f_out.data(), gu.data(), n, f, ORIBI_SILU, ORIBI_BF16));
    CHECK(threads == 1 || f_out.same_bits(first));
  }
}

TEST(arguments) {
  Context ctx;
  Array a(16, ORIBI_F32, 3);
  void* p = a.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_glu_forward: n must be at least 0, found -1",
               oribi_glu_forward(ctx, p, p, -1, 2, ORIBI_SILU, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "f_size must be at least 1",
               oribi_glu_forward(ctx, p, p, 2, 0, ORIBI_SILU, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "act is 7",
               oribi_glu_backward(ctx, p, p, p, p, 2, 2, static_cast<oribi_activation>(7), ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "df is NULL", oribi_glu_backward(ctx, p, p, nullptr, p, 2, 2, ORIBI_SILU, ORIBI_F32));
  CHECK_OK(ctx, oribi_glu_forward(ctx, nullptr, nullptr, 0, 2, ORIBI_SILU, ORIBI_F32));
  compare_within("untouched", a.values(), Values(16, 3), 0);
}
