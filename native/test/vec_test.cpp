/* The elementary functions that the kernels share, against the C library in double. They are compiled here for the
   baseline; the kernels' own tests see them in every instruction set. */
#include "cpu/vec.h"

#include "check.h"

using namespace check;

namespace {

/* The distance from the exact value in units of the last place of fp32, subnormals included. */
double ulps(float actual, double exact) {
  if (std::isnan(exact)) return std::isnan(actual) ? 0 : 1e9;
  const float nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::isinf(actual)) return actual == nearest ? 0 : 1e9;
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::fabs(actual - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

template <class Scalar, class Vector, class Exact>
void check_function(const char* name, Scalar&& scalar, Vector&& vector, Exact&& exact, double low, double high, double most) {
  where = name;
  Random random(1);
  double worst = 0, at = 0;
  for (int i = 0; i < 200000; i++) {
    float x[oribi::kLanes], y[oribi::kLanes];
    for (float& v : x) v = static_cast<float>(random.uniform(low, high));
    oribi::vstore(y, vector(oribi::vload(x)));
    for (int lane = 0; lane < oribi::kLanes; lane++) {
      const double error = std::fmax(ulps(y[lane], exact(x[lane])), ulps(scalar(x[lane]), exact(x[lane])));
      if (!(error <= worst)) worst = error, at = x[lane];
    }
  }
  checks++;
  std::printf("    %-10s [%g, %g]: %.2f ulp at %.9g\n", name, low, high, worst, at);
  if (!(worst <= most)) failed(__FILE__, __LINE__, "more than " + std::to_string(most) + " ulp");
}

}  // namespace

TEST(exponential) {
  auto f = [](auto x) { return oribi::vexp(x); };
  auto exact = [](double x) { return std::exp(x); };
  check_function("exp", f, f, exact, -1, 1, 1);
  check_function("exp", f, f, exact, -87, 88.7, 1);
  check_function("exp", f, f, exact, -110, 95, 1);
  CHECK(oribi::vexp(0.0f) == 1);
  CHECK(oribi::vexp(INFINITY) == INFINITY);
  CHECK(oribi::vexp(-INFINITY) == 0);
  CHECK(std::isnan(oribi::vexp(NAN)));
}

TEST(sigmoid) {
  auto f = [](auto x) { return oribi::vsigmoid(x); };
  auto exact = [](double x) { return 1 / (1 + std::exp(-x)); };
  check_function("sigmoid", f, f, exact, -5, 5, 3);
  check_function("sigmoid", f, f, exact, -86, 86, 3);
  CHECK(oribi::vsigmoid(-INFINITY) == 0);
  CHECK(oribi::vsigmoid(INFINITY) == 1);
  CHECK(std::isnan(oribi::vsigmoid(NAN)));
}

TEST(error_function) {
  auto f = [](auto x) { return oribi::verf(x); };
  auto exact = [](double x) { return std::erf(x); };
  check_function("erf", f, f, exact, -1, 1, 2);
  check_function("erf", f, f, exact, -5, 5, 2);
  check_function("erf", f, f, exact, -1e-30, 1e-30, 2);
  CHECK(oribi::verf(INFINITY) == 1);
  CHECK(oribi::verf(-INFINITY) == -1);
  CHECK(std::isnan(oribi::verf(NAN)));
}

TEST(logarithm) {
  auto f = [](auto x) { return oribi::vlog(x); };
  auto exact = [](double x) { return std::log(x); };
  check_function("log", f, f, exact, 0x1p-33, 1e-6, 1);
  check_function("log", f, f, exact, 0.5, 1, 1);
  check_function("log", f, f, exact, 0.9, 1.1, 1);
  check_function("log", f, f, exact, 1, 1e9, 1);
  CHECK(oribi::vlog(1.0f) == 0);
}

TEST(turns) {
  const double pi = 3.14159265358979323846;
  Random random(2);
  double worst = 0;
  for (int i = 0; i < 200000; i++) {
    const float turn = static_cast<float>(random.below(1 << 24)) * 0x1p-24f;
    float sine, cosine;
    oribi::vsincos_turn(turn, sine, cosine);
    oribi::vfloat sines, cosines;
    oribi::vsincos_turn(oribi::vset(turn), sines, cosines);
    const int lane = i % oribi::kLanes;
    worst = std::fmax(worst, std::fabs(sine - std::sin(2 * pi * turn)));
    worst = std::fmax(worst, std::fabs(cosine - std::cos(2 * pi * turn)));
    worst = std::fmax(worst, std::fabs(sines[lane] - std::sin(2 * pi * turn)));
    worst = std::fmax(worst, std::fabs(cosines[lane] - std::cos(2 * pi * turn)));
  }
  std::printf("    sin, cos: %.3g absolute\n", worst);
  CHECK(worst <= 0x1p-23);
}
