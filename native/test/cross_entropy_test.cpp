#include "cross_entropy_ref.h"

#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, v;
};
/* Awkward ones, then the vocabularies of stories260K, GPT-2 (odd), Llama 3 and Gemma. */
constexpr Shape kShapes[] = {{1, 1},    {13, 2},    {1, 13},   {113, 113},  {13, 1023},
                             {9, 512},  {9, 32776}, {3, 50257}, {3, 128256}, {2, 262144}};
constexpr float kGradScale = 0.37f;

/* What is done to the logits first; plain for most models, the cap of Gemma 2's head, the scale of Cohere's. */
struct Head {
  float scale = 1, softcap = 0;
};

struct Data {
  Shape s;
  oribi_dtype t;
  Head head;
  Values logits;
  std::vector<int32_t> labels;

  Data(Shape shape, oribi_dtype type, double mean, double std, Head h = {}) : s(shape), t(type), head(h) {
    Random random(static_cast<uint64_t>(s.n * 7 + s.v));
    logits = rounded(random.normals(s.n * s.v, mean, std), t);
    labels.resize(s.n);
    for (int64_t i = 0; i < s.n; i++) labels[i] = i % 4 == 3 ? (i % 8 == 3 ? -100 : -1) : static_cast<int32_t>(random.below(s.v));
    where = std::string(name_of(t)) + " n=" + std::to_string(s.n) + " v=" + std::to_string(s.v) + " std=" + std::to_string(std) +
            " scale=" + std::to_string(head.scale) + " softcap=" + std::to_string(head.softcap);
  }

  oribi_status run(oribi_ctx* ctx, Array* dx, Array& loss, Array& x) const {
    Plain<int32_t> targets(labels);
    Plain<float> grad_scale{kGradScale};
    const oribi_status status = oribi_cross_entropy(ctx, dx == nullptr ? nullptr : dx->data(), loss.f32(), x.data(), targets.data(),
                                                    dx == nullptr ? nullptr : grad_scale.data(), s.n, s.v, head.scale, head.softcap, t);
    return status == ORIBI_OK ? oribi_ctx_synchronize(ctx) : status;
  }
};

template <class Real>
void reference_values(Values& dlogits, Values& loss, const Data& data) {
  const std::vector<Real> x(data.logits.begin(), data.logits.end());
  std::vector<Real> dx(x.size()), l(data.labels.size());
  reference::cross_entropy<Real>(dx.data(), l.data(), x.data(), data.labels.data(), kGradScale, data.s.n, data.s.v,
                                 data.head.scale, data.head.softcap);
  dlogits.assign(dx.begin(), dx.end());
  loss.assign(l.begin(), l.end());
}

/* The gradient of each label is near -grad_scale and would hide the rest: both parts are compared apart. */
void compare_gradient(const Values& actual, const Values& exact, const Values& plain, const Data& data) {
  Values parts[2][3];
  for (int64_t i = 0; i < data.s.n * data.s.v; i++) {
    Values* part = parts[i % data.s.v == data.labels[i / data.s.v]];
    part[0].push_back(actual[i]);
    part[1].push_back(exact[i]);
    part[2].push_back(plain[i]);
  }
  compare("dlogits", parts[0][0], parts[0][1], parts[0][2], data.t);
  compare("dlogits of the label", parts[1][0], parts[1][1], parts[1][2], data.t, kGradScale * data.head.scale);
}

void check_values(const Data& data) {
  const Shape s = data.s;
  Values exact_dx, exact_loss, plain_dx, plain_loss;
  reference_values<double>(exact_dx, exact_loss, data);
  reference_values<float>(plain_dx, plain_loss, data);
  Context ctx(2);
  Array logits(data.logits, data.t), dx(s.n * s.v, data.t, 7), loss(s.n, ORIBI_F32, 7), alone(s.n, ORIBI_F32, 7);
  CHECK_OK(ctx, data.run(ctx, &dx, loss, logits));
  compare("loss", loss.values(), exact_loss, plain_loss, ORIBI_F32);
  compare_gradient(dx.values(), exact_dx, rounded(plain_dx, data.t), data);
  for (int64_t i = 3; i < s.n; i += 4) CHECK(loss.get(i) == 0 && dx.get(i * s.v) == 0 && dx.get(i * s.v + s.v - 1) == 0);

  CHECK_OK(ctx, data.run(ctx, nullptr, alone, logits));
#ifdef ORIBI_TEST_CUDA /* another kernel may take the loss alone, with sums in another order */
  compare("loss alone", alone.values(), exact_loss, plain_loss, ORIBI_F32);
#else
  CHECK(alone.same_bits(loss));
#endif
  CHECK_OK(ctx, data.run(ctx, &logits, alone, logits)); /* in place */
  CHECK(alone.same_bits(loss) && logits.same_bits(dx));
}

}  // namespace

TEST(loss_and_gradient) {
  for (oribi_dtype t : kDtypes)
    for (Shape s : kShapes) {
      check_values({s, t, 0.5, 2});
      check_values({s, t, -3, 0.01});
    }
}

TEST(scaled_and_soft_capped) {
  for (oribi_dtype t : kDtypes)
    for (Shape s : {Shape{13, 2}, {113, 113}, {13, 1023}, {2, 4104}, {3, 50257}})
      for (Head head : {Head{0.0625f, 0}, Head{1, 30}, Head{1.7f, 5}}) check_values({s, t, 0.5, 12, head});
}

/* Logits of +-1e4: the loss has the accuracy of the logits' differences. */
TEST(large_logits) {
  for (oribi_dtype t : kDtypes)
    for (Shape s : kShapes) check_values({s, t, 3000, 3000});
  Context ctx;
  Data data({1, 3}, ORIBI_F32, 0, 1);
  data.labels = {1};
  Array logits(Values{1e4, 1e4, 1e4 - 1}, ORIBI_F32), loss(1, ORIBI_F32);
  CHECK_OK(ctx, data.run(ctx, nullptr, loss, logits));
  compare_within("loss", loss.values(), {std::log(2 + std::exp(-1.0))}, 1e-7);
}

TEST(reference_gradient_by_finite_differences) {
  for (Head head : {Head{}, Head{1.7f, 0}, Head{1, 3}, Head{0.6f, 2}}) {
    Data data({4, 7}, ORIBI_F32, 0, 1.5, head);
    Values dx(28), loss(4);
    const auto reference_loss = [&](const Values& x, Values& gradient) {
      reference::cross_entropy<double>(gradient.data(), loss.data(), x.data(), data.labels.data(), kGradScale, 4, 7, head.scale,
                                       head.softcap);
      return kGradScale * (loss[0] + loss[1] + loss[2] + loss[3]);
    };
    reference_loss(data.logits, dx);
    compare_derivative("dlogits", data.logits, dx, [&](const Values& x) {
      Values unused(28);
      return reference_loss(x, unused);
    });
  }
}

TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    const Data data({113, 1023}, t, 0, 3);
    Array logits(data.logits, t), first_dx(113 * 1023, t), first_loss(113, ORIBI_F32);
    for (int32_t threads : {1, 2, 3}) {
      Context ctx(threads);
      Array dx(113 * 1023, t), loss(113, ORIBI_F32);
      const bool first = threads == 1;
      CHECK_OK(ctx, data.run(ctx, first ? &first_dx : &dx, first ? first_loss : loss, logits));
      CHECK(first || (dx.same_bits(first_dx) && loss.same_bits(first_loss)));
    }
  }
}

/* A loss that is not a number must be seen, in its own row only. */
TEST(not_a_number_is_not_hidden) {
  for (oribi_dtype t : kDtypes)
    for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
      for (int64_t at : {0, 31, 40, 112}) {
        Data data({3, 113}, t, 0, 2);
        data.logits[113 + at] = bad;
        Context ctx;
        Array logits(data.logits, t), dx(3 * 113, t), loss(3, ORIBI_F32);
        CHECK_OK(ctx, data.run(ctx, &dx, loss, logits));
        CHECK(std::isfinite(loss.get(0)) && std::isnan(loss.get(1)) && std::isfinite(loss.get(2)));
        CHECK(std::isfinite(dx.get(0)) && std::isnan(dx.get(113 + at)) && std::isfinite(dx.get(2 * 113)));
      }
}

/* What a mask excludes has no probability and no gradient; a row of nothing else has no loss. */
TEST(minus_infinity) {
  for (oribi_dtype t : kDtypes)
    for (float scale : {1.0f, 0.5f}) {
      Data data({3, 40}, t, 0, 2, {scale, 0});
      data.labels = {3, 5, 7};
      for (int64_t j = 0; j < 40; j++) {
        if (j > 20) data.logits[j] = -INFINITY;
        data.logits[40 + j] = -INFINITY;
      }
      Context ctx;
      Array logits(data.logits, t), dx(120, t, 7), loss(3, ORIBI_F32);
      CHECK_OK(ctx, data.run(ctx, &dx, loss, logits));
      CHECK(std::isfinite(loss.get(0)) && std::isnan(loss.get(1)) && std::isfinite(loss.get(2)));
      for (int64_t j = 21; j < 40; j++) CHECK(dx.get(j) == 0);
    }
}

TEST(arguments) {
  Context ctx;
  Array a(8, ORIBI_F32, 3), loss(2, ORIBI_F32, 7);
  Plain<int32_t> labels{1, 4};
  Plain<float> grad_scale{kGradScale};
  const auto call = [&](void* dx, const void* x, const float* scale, int64_t v, float logit_scale, float softcap, oribi_dtype t) {
    return oribi_cross_entropy(ctx, dx, loss.f32(), x, labels.data(), scale, 2, v, logit_scale, softcap, t);
  };
  const float* scale = grad_scale.data();
#ifdef ORIBI_TEST_CUDA
  CHECK_OK(ctx, call(a.data(), a.data(), scale, 4, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "a label was not below v", oribi_ctx_synchronize(ctx));
  CHECK(loss.get(0) > 0 && loss.get(1) == 0 && a.get(0) != 0 && a.get(4) == 0 && a.get(7) == 0);
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "v = 262145", call(a.data(), a.data(), scale, 262145, 1, 0, ORIBI_F32));
#else
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "labels[1] must be below v = 4, found 4", call(a.data(), a.data(), scale, 4, 1, 0, ORIBI_F32));
#endif
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "v must be at least 1, found 0", call(a.data(), a.data(), scale, 0, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "grad_scale is NULL", call(a.data(), a.data(), nullptr, 4, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "logits is NULL", call(nullptr, nullptr, nullptr, 4, 1, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "softcap must be 0 (off) or more, found -1", call(a.data(), a.data(), scale, 4, 1, -1, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "logit_scale must be finite", call(a.data(), a.data(), scale, 4, INFINITY, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "t is 7", call(a.data(), a.data(), scale, 4, 1, 0, static_cast<oribi_dtype>(7)));
  CHECK_OK(ctx, oribi_cross_entropy(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 4, 1, 0, ORIBI_F32));
}
