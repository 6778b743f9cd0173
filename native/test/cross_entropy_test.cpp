#include "cross_entropy_ref.h"

#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, v;
};
/* Awkward ones, then the vocabularies of stories260K, Llama 3 and Gemma. */
constexpr Shape kShapes[] = {{1, 1}, {13, 2}, {1, 13}, {113, 113}, {13, 1023}, {9, 512}, {3, 128256}, {2, 262144}};
constexpr float kGradScale = 0.37f;

struct Data {
  Values logits;
  std::vector<int32_t> labels;

  Data(Shape s, double mean, double std) {
    Random random(static_cast<uint64_t>(s.n * 7 + s.v));
    logits = rounded(random.normals(s.n * s.v, mean, std), ORIBI_F32);
    labels.resize(s.n);
    for (int64_t i = 0; i < s.n; i++) labels[i] = i % 4 == 3 ? (i % 8 == 3 ? -100 : -1) : static_cast<int32_t>(random.below(s.v));
    where = "n=" + std::to_string(s.n) + " v=" + std::to_string(s.v) + " std=" + std::to_string(std);
  }
};

template <class Real>
void reference_values(Values& dlogits, Values& loss, const Data& data, Shape s) {
  const std::vector<Real> x(data.logits.begin(), data.logits.end());
  std::vector<Real> dx(x.size()), l(data.labels.size());
  reference::cross_entropy<Real>(dx.data(), l.data(), x.data(), data.labels.data(), kGradScale, s.n, s.v);
  dlogits.assign(dx.begin(), dx.end());
  loss.assign(l.begin(), l.end());
}

/* The gradient of each label is near -grad_scale and would hide the rest: both parts are compared apart. */
void compare_gradient(const Values& actual, const Values& exact, const Values& plain, const Data& data, Shape s) {
  Values parts[2][3];
  for (int64_t i = 0; i < s.n * s.v; i++) {
    Values* part = parts[i % s.v == data.labels[i / s.v]];
    part[0].push_back(actual[i]);
    part[1].push_back(exact[i]);
    part[2].push_back(plain[i]);
  }
  compare("dlogits", parts[0][0], parts[0][1], parts[0][2], ORIBI_F32);
  compare("dlogits of the label", parts[1][0], parts[1][1], parts[1][2], ORIBI_F32, kGradScale);
}

void check_values(Shape s, double mean, double std) {
  const Data data(s, mean, std);
  Values exact_dx, exact_loss, plain_dx, plain_loss;
  reference_values<double>(exact_dx, exact_loss, data, s);
  reference_values<float>(plain_dx, plain_loss, data, s);
  Context ctx(2);
  Array logits(data.logits, ORIBI_F32), dx(s.n * s.v, ORIBI_F32, 7), loss(s.n, ORIBI_F32, 7), alone(s.n, ORIBI_F32, 7);
  CHECK_OK(ctx, oribi_cross_entropy(ctx, dx.f32(), loss.f32(), logits.f32(), data.labels.data(), &kGradScale, s.n, s.v, 1, 0, ORIBI_F32));
  compare("loss", loss.values(), exact_loss, plain_loss, ORIBI_F32);
  compare_gradient(dx.values(), exact_dx, plain_dx, data, s);
  for (int64_t i = 3; i < s.n; i += 4) CHECK(loss.get(i) == 0 && dx.get(i * s.v) == 0 && dx.get(i * s.v + s.v - 1) == 0);

  CHECK_OK(ctx, oribi_cross_entropy(ctx, nullptr, alone.f32(), logits.f32(), data.labels.data(), nullptr, s.n, s.v, 1, 0, ORIBI_F32));
  CHECK(alone.same_bits(loss));
  CHECK_OK(ctx, oribi_cross_entropy(ctx, logits.f32(), alone.f32(), logits.f32(), data.labels.data(), &kGradScale, s.n, s.v, 1, 0, ORIBI_F32));
  CHECK(alone.same_bits(loss) && logits.same_bits(dx));
}

}  // namespace

TEST(loss_and_gradient) {
  for (Shape s : kShapes) {
    check_values(s, 0.5, 2);
    check_values(s, -3, 0.01);
  }
}

/* Logits of +-1e4: the loss has the accuracy of the logits' differences. */
TEST(large_logits) {
  for (Shape s : kShapes) check_values(s, 3000, 3000);
  Context ctx;
  const std::vector<int32_t> label{1};
  Array logits(Values{1e4, 1e4, 1e4 - 1}, ORIBI_F32), loss(1, ORIBI_F32);
  CHECK_OK(ctx, oribi_cross_entropy(ctx, nullptr, loss.f32(), logits.f32(), label.data(), nullptr, 1, 3, 1, 0, ORIBI_F32));
  compare_within("loss", loss.values(), {std::log(2 + std::exp(-1.0))}, 1e-7);
}

TEST(reference_gradient_by_finite_differences) {
  const Shape s{4, 7};
  Data data(s, 0, 1.5);
  Values dx(28), loss(4);
  reference::cross_entropy<double>(dx.data(), loss.data(), data.logits.data(), data.labels.data(), kGradScale, 4, 7);
  compare_derivative("dlogits", data.logits, dx, [&](const Values& x) {
    Values unused(28), l(4);
    reference::cross_entropy<double>(unused.data(), l.data(), x.data(), data.labels.data(), kGradScale, 4, 7);
    return kGradScale * (l[0] + l[1] + l[2] + l[3]);
  });
}

TEST(same_bits_for_any_number_of_threads) {
  const Shape s{113, 1023};
  const Data data(s, 0, 3);
  Array logits(data.logits, ORIBI_F32), first_dx(s.n * s.v, ORIBI_F32), first_loss(s.n, ORIBI_F32);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array dx(s.n * s.v, ORIBI_F32), loss(s.n, ORIBI_F32);
    const bool first = threads == 1;
    CHECK_OK(ctx, oribi_cross_entropy(ctx, (first ? first_dx : dx).f32(), (first ? first_loss : loss).f32(), logits.f32(),
                                      data.labels.data(), &kGradScale, s.n, s.v, 1, 0, ORIBI_F32));
    CHECK(first || (dx.same_bits(first_dx) && loss.same_bits(first_loss)));
  }
}

/* A loss that is not a number must be seen, in its own row only. */
TEST(not_a_number_is_not_hidden) {
  for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
    for (int64_t at : {0, 31, 40, 112}) {
      const Shape s{3, 113};
      Data data(s, 0, 2);
      data.logits[s.v + at] = bad;
      Context ctx;
      Array logits(data.logits, ORIBI_F32), dx(s.n * s.v, ORIBI_F32), loss(s.n, ORIBI_F32);
      CHECK_OK(ctx, oribi_cross_entropy(ctx, dx.f32(), loss.f32(), logits.f32(), data.labels.data(), &kGradScale, s.n, s.v, 1, 0, ORIBI_F32));
      CHECK(std::isfinite(loss.get(0)) && std::isnan(loss.get(1)) && std::isfinite(loss.get(2)));
      CHECK(std::isfinite(dx.get(0)) && std::isnan(dx.get(s.v + at)) && std::isfinite(dx.get(2 * s.v)));
    }
}

TEST(arguments) {
  Context ctx;
  Array a(8, ORIBI_F32, 3), loss(2, ORIBI_F32);
  const std::vector<int32_t> labels{1, 4};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "labels[1] must be below v = 4, found 4",
               oribi_cross_entropy(ctx, a.f32(), loss.f32(), a.f32(), labels.data(), &kGradScale, 2, 4, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "v must be at least 1, found 0",
               oribi_cross_entropy(ctx, a.f32(), loss.f32(), a.f32(), labels.data(), &kGradScale, 2, 0, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "grad_scale is NULL",
               oribi_cross_entropy(ctx, a.f32(), loss.f32(), a.f32(), labels.data(), nullptr, 2, 4, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "logits is NULL",
               oribi_cross_entropy(ctx, nullptr, loss.f32(), nullptr, labels.data(), nullptr, 2, 4, 1, 0, ORIBI_F32));
  CHECK_OK(ctx, oribi_cross_entropy(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 4, 1, 0, ORIBI_F32));
}
