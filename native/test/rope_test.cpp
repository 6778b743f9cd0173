#include <algorithm>

#include "check.h"
#include "rope_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, h, h_kv, d, pad_q, pad_k, rotated; /* rotated 0: all of d */
};
/* The last four turn a part of each head: all sizes of access on a GPU, and Phi-4 mini's 96 of 128. */
constexpr Shape kShapes[] = {{1, 1, 1, 2, 0, 0, 0},   {13, 3, 1, 26, 0, 0, 0},  {113, 9, 3, 64, 0, 0, 0}, {113, 9, 3, 64, 6 * 64, 12 * 64, 0},
                             {1023, 2, 2, 6, 1, 5, 0}, {7, 32, 8, 128, 0, 0, 0}, {5, 0, 3, 80, 0, 3, 0},   {5, 3, 0, 80, 2, 0, 0},
                             {9, 4, 1, 256, 8, 0, 0},  {3, 1, 1, 1200, 0, 0, 0}, {7, 24, 8, 128, 0, 0, 96}, {13, 3, 1, 26, 4, 1, 10},
                             {29, 4, 2, 80, 0, 0, 20}, {5, 2, 1, 64, 3, 0, 64}};
constexpr int64_t kMaxPosition = 300;

struct Case {
  Shape s;
  Values q, k, cos, sin;
  std::vector<int32_t> positions;
  oribi_rope_shape shape;

  Case(Shape shape_, oribi_dtype t, bool inverse) : s(shape_) {
    where = "n=" + std::to_string(s.n) + " h=" + std::to_string(s.h) + " h_kv=" + std::to_string(s.h_kv) +
            " d=" + std::to_string(s.d) + (inverse ? " inverse " : " ") + name_of(t);
    shape = {s.n, s.h, s.h_kv, s.d, s.h * s.d + s.pad_q, s.h_kv * s.d + s.pad_k, kMaxPosition, t, inverse, s.rotated};
    Random random(static_cast<uint64_t>(s.n * 31 + s.d));
    q = rounded(random.normals(s.n * shape.ld_q, 0.1, 1.3), t);
    k = rounded(random.normals(s.n * shape.ld_k, -0.2, 0.8), t);
    for (int64_t position = 0; position < kMaxPosition; position++) {
      for (int64_t i = 0; i < rotated() / 2; i++) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotated());
        const double angle = static_cast<double>(position) * std::pow(10000.0, exponent);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    /* Packed sequences: positions begin again now and then. */
    for (int64_t i = 0; i < s.n; i++) positions.push_back(static_cast<int32_t>(i % 257 % kMaxPosition + 3));
  }

  int64_t rotated() const { return s.rotated == 0 ? s.d : s.rotated; }

  template <class Real>
  void reference_result(Values& q_out, Values& k_out) const {
    q_out = q;
    k_out = k;
    reference::rope<Real>(q_out, cos, sin, positions, s.n, s.h, s.d, rotated(), shape.ld_q, shape.inverse);
    reference::rope<Real>(k_out, cos, sin, positions, s.n, s.h_kv, s.d, rotated(), shape.ld_k, shape.inverse);
  }
};

void check_case(Shape s, oribi_dtype t, bool inverse) {
  const Case c(s, t, inverse);
  Context ctx;
  Array q(c.q, t), k(c.k, t), cos(c.cos, ORIBI_F32), sin(c.sin, ORIBI_F32);
  Plain<int32_t> positions(c.positions);
  CHECK_OK(ctx, oribi_rope(ctx, q.data(), k.data(), cos.f32(), sin.f32(), positions.data(), &c.shape));
  Values exact_q, exact_k, plain_q, plain_k;
  c.reference_result<double>(exact_q, exact_k);
  c.reference_result<float>(plain_q, plain_k);
  compare("q", q.values(), exact_q, rounded(plain_q, t), t);
  compare("k", k.values(), exact_k, rounded(plain_k, t), t);
  bool untouched = true; /* what lies between the rows */
  for (int64_t row = 0; row < s.n; row++) {
    for (int64_t i = s.h * s.d; i < c.shape.ld_q; i++) untouched &= q.get(row * c.shape.ld_q + i) == c.q[row * c.shape.ld_q + i];
    for (int64_t i = s.h_kv * s.d; i < c.shape.ld_k; i++) untouched &= k.get(row * c.shape.ld_k + i) == c.k[row * c.shape.ld_k + i];
  }
  CHECK(untouched);
}

}  // namespace

TEST(rotation) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      check_case(s, t, false);
      check_case(s, t, true);
    }
  }
}

/* The rotation is linear, so its backward pass is its transpose: <rope(x), y> = <x, rope^-1(y)>. */
TEST(inverse_is_the_backward_pass) {
  Case forward({7, 3, 1, 26, 0, 0, 0}, ORIBI_F32, false), backward({7, 3, 1, 26, 0, 0, 0}, ORIBI_F32, true);
  Random random(77);
  backward.q = random.normals(static_cast<int64_t>(backward.q.size()));
  Values rotated, rotated_k, gradient, gradient_k;
  forward.reference_result<double>(rotated, rotated_k);
  backward.reference_result<double>(gradient, gradient_k);
  compare_derivative("dq", forward.q, gradient, [&](const Values& x) {
    Values y(x);
    reference::rope<double>(y, forward.cos, forward.sin, forward.positions, 7, 3, 26, 26, 3 * 26, false);
    double sum = 0;
    for (size_t i = 0; i < y.size(); i++) sum += y[i] * backward.q[i];
    return sum;
  });
}

TEST(same_bits_for_any_number_of_threads) {
  const Case c({1023, 9, 3, 64, 0, 0, 0}, ORIBI_BF16, false);
  Array cos(c.cos, ORIBI_F32), sin(c.sin, ORIBI_F32), first(c.q, ORIBI_BF16);
  Plain<int32_t> positions(c.positions);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array q(c.q, ORIBI_BF16), k(c.k, ORIBI_BF16);
    CHECK_OK(ctx, oribi_rope(ctx, threads == 1 ? first.data() : q.data(), k.data(), cos.f32(), sin.f32(), positions.data(), &c.shape));
    CHECK(threads == 1 || q.same_bits(first));
  }
}

/* A CPU refuses a position out of range and writes nothing; a GPU writes zeros in its row alone, and tells afterwards. */
TEST(positions_out_of_range) {
  for (int32_t bad : {300, -1}) {
    Case c({3, 2, 1, 4, 0, 0, 0}, ORIBI_F32, false);
    where = "position " + std::to_string(bad);
    Values exact_q, exact_k;
    c.reference_result<double>(exact_q, exact_k);
    c.positions[1] = bad;
    Context ctx;
    Array q(c.q, ORIBI_F32), k(c.k, ORIBI_F32), cos(c.cos, ORIBI_F32), sin(c.sin, ORIBI_F32);
    Plain<int32_t> positions(c.positions);
    auto call = [&] { return oribi_rope(ctx, q.data(), k.data(), cos.f32(), sin.f32(), positions.data(), &c.shape); };
    if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_rope: positions[1] is ", call());
      CHECK(std::string(oribi_ctx_message(ctx)).find("expected 0 to 299") != std::string::npos);
      compare_within("q", q.values(), c.q, 0);
      compare_within("k", k.values(), c.k, 0);
    } else {
      CHECK_OK(ctx, call());
      CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_rope: a position was outside [0, max_position)", oribi_ctx_synchronize(ctx));
      CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
      std::fill(exact_q.begin() + 8, exact_q.begin() + 16, 0.0);
      std::fill(exact_k.begin() + 4, exact_k.begin() + 8, 0.0);
      compare_within("q", q.values(), exact_q, 1e-6);
      compare_within("k", k.values(), exact_k, 1e-6);
    }
  }
}

TEST(arguments) {
  Case c({3, 2, 1, 4, 0, 0, 0}, ORIBI_F32, false);
  Context ctx;
  Array q(c.q, ORIBI_F32), k(c.k, ORIBI_F32), cos(c.cos, ORIBI_F32), sin(c.sin, ORIBI_F32);
  Plain<int32_t> positions(c.positions);
  auto call = [&] { return oribi_rope(ctx, q.data(), k.data(), cos.f32(), sin.f32(), positions.data(), &c.shape); };
  c.shape.d = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "d must be even, found 3", call());
  c.shape.d = 4;
  for (int64_t rotated : {3, 6, -2}) {
    c.shape.rotated = rotated;
    CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rotated must be even and at most d, found ", call());
  }
  c.shape.rotated = 0;
  c.shape.ld_q = 7;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_q must be at least 8, found 7", call());
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "shape is NULL",
               oribi_rope(ctx, q.data(), k.data(), cos.f32(), sin.f32(), positions.data(), nullptr));
  compare_within("untouched", q.values(), c.q, 0);
  c.shape.ld_q = 8;
  c.shape.n = 0;
  CHECK_OK(ctx, oribi_rope(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, &c.shape));
}
