/* The heads of multi-head latent attention. */
#include "check.h"
#include "latent_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Sizes {
  int64_t n, h, nope, rope, v, pad;
};
/* Awkward ones, no padding of v, and DeepSeek V2-Lite's and V3's heads within rows of q, k and v. */
constexpr Sizes kSizes[] = {{1, 1, 0, 2, 1, 0}, {13, 3, 5, 6, 7, 3}, {7, 2, 8, 8, 16, 8}, {29, 5, 32, 16, 24, 0}, {5, 16, 128, 64, 128, 0}, {2, 128, 128, 64, 128, 16}};
constexpr int64_t kPositions = 37;

struct Case {
  oribi_latent_shape s;
  reference::LatentAngles angles;
  Values q, k, v, kv, r;

  Case(const char* name, Sizes z, oribi_dtype t, bool interleaved) {
    where = std::string(name) + " n=" + std::to_string(z.n) + " h=" + std::to_string(z.h) + " nope=" + std::to_string(z.nope) +
            " rope=" + std::to_string(z.rope) + " v=" + std::to_string(z.v) + (interleaved ? " interleaved " : " ") + name_of(t);
    const int64_t row = z.h * (z.nope + z.rope);
    s = {z.n, z.h, z.nope, z.rope, z.v, row + z.pad, row + 2 * z.pad, row + z.pad, z.h * (z.nope + z.v) + z.pad, z.rope + z.pad, kPositions, interleaved, t};
    Random random(static_cast<uint64_t>(z.n * 131 + z.h * 7 + z.nope));
    for (int64_t i = 0; i < kPositions * z.rope / 2; i++) {
      const double angle = random.uniform(0, 6.3);
      angles.cos.push_back(round_to(std::cos(angle), ORIBI_F32));
      angles.sin.push_back(round_to(std::sin(angle), ORIBI_F32));
    }
    for (int64_t i = 0; i < z.n; i++) angles.positions.push_back(static_cast<int32_t>(random.below(kPositions)));
    q = rounded(random.normals(z.n * s.ld_q), t);
    k = rounded(random.normals(z.n * s.ld_k), t);
    v = rounded(random.normals(z.n * s.ld_v), t);
    kv = rounded(random.normals(z.n * s.ld_kv), t);
    r = rounded(random.normals(z.n * s.ld_r), t);
  }
};

void check_both(Sizes z, oribi_dtype t, bool interleaved) {
  const Case c("latent", z, t, interleaved);
  Context ctx;
  Array cos(c.angles.cos, ORIBI_F32), sin(c.angles.sin, ORIBI_F32);
  Plain<int32_t> positions(c.angles.positions);
  {
    Array q(c.q, t), k(c.k, t), v(c.v, t), kv(c.kv, t), r(c.r, t);
    CHECK_OK(ctx, oribi_latent_forward(ctx, q.data(), k.data(), v.data(), kv.data(), r.data(), cos.f32(), sin.f32(), positions.data(), &c.s));
    Values exact_q(c.q), exact_k(c.k), exact_v(c.v), plain_q(c.q), plain_k(c.k), plain_v(c.v);
    reference::latent_forward<double>(exact_q, exact_k, exact_v, c.kv, c.r, c.angles, c.s);
    reference::latent_forward<float>(plain_q, plain_k, plain_v, c.kv, c.r, c.angles, c.s);
    compare("q", q.values(), exact_q, rounded(plain_q, t), t);
    compare("k", k.values(), exact_k, rounded(plain_k, t), t);
    compare_within("v", v.values(), exact_v, 0);
    Array again(c.k, t);
    CHECK_OK(ctx, oribi_latent_forward(ctx, nullptr, again.data(), v.data(), kv.data(), r.data(), cos.f32(), sin.f32(), positions.data(), &c.s));
    CHECK(again.same_bits(k));
  }
  Array dq(c.q, t), dk(c.k, t), dv(c.v, t), dkv(c.kv, t), dr(c.r, t);
  CHECK_OK(ctx, oribi_latent_backward(ctx, dq.data(), dkv.data(), dr.data(), dk.data(), dv.data(), cos.f32(), sin.f32(), positions.data(), &c.s));
  Values exact_q(c.q), exact_kv(c.kv), exact_r(c.r), plain_q(c.q), plain_kv(c.kv), plain_r(c.r);
  reference::latent_backward<double>(exact_q, exact_kv, exact_r, c.k, c.v, c.angles, c.s);
  reference::latent_backward<float>(plain_q, plain_kv, plain_r, c.k, c.v, c.angles, c.s);
  compare("dq", dq.values(), exact_q, rounded(plain_q, t), t);
  compare_within("dkv", dkv.values(), exact_kv, 0);
  compare("dk_rope", dr.values(), exact_r, rounded(plain_r, t), t, largest(c.k) * std::sqrt(z.h));
}

}  // namespace

TEST(forward_and_backward) {
  for (oribi_dtype t : kDtypes) {
    for (Sizes z : kSizes) {
      check_both(z, t, true);
      check_both(z, t, false);
    }
  }
}

TEST(reference_backward_by_finite_differences) {
  for (bool interleaved : {false, true}) {
    const Case c("reference", {2, 3, 3, 4, 5, 1}, ORIBI_F32, interleaved);
    const auto loss = [&](const Values& q, const Values& kv, const Values& r) {
      Values out_q(q), k(c.k.size()), v(c.v.size());
      reference::latent_forward<double>(out_q, k, v, kv, r, c.angles, c.s);
      double sum = 0;
      for (size_t i = 0; i < q.size(); i++) sum += out_q[i] * c.q[i];
      for (size_t i = 0; i < k.size(); i++) sum += k[i] * c.k[i];
      for (size_t i = 0; i < v.size(); i++) sum += v[i] * c.v[i];
      return sum;
    };
    Values dq(c.q), dkv(c.kv.size()), dr(c.r.size());
    reference::latent_backward<double>(dq, dkv, dr, c.k, c.v, c.angles, c.s);
    compare_derivative("dq", c.q, dq, [&](const Values& q) { return loss(q, c.kv, c.r); });
    compare_derivative("dkv", c.kv, dkv, [&](const Values& kv) { return loss(c.q, kv, c.r); });
    compare_derivative("dk_rope", c.r, dr, [&](const Values& r) { return loss(c.q, c.kv, r); });
  }
}

TEST(same_bits_for_any_number_of_threads) {
  const Case c("threads", {301, 5, 32, 16, 24, 0}, ORIBI_BF16, true);
  Array cos(c.angles.cos, ORIBI_F32), sin(c.angles.sin, ORIBI_F32), dk(c.k, ORIBI_BF16), dv(c.v, ORIBI_BF16), first(c.r, ORIBI_BF16);
  Plain<int32_t> positions(c.angles.positions);
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Array dq(c.q, ORIBI_BF16), dkv(c.kv, ORIBI_BF16), dr(c.r, ORIBI_BF16);
    CHECK_OK(ctx, oribi_latent_backward(ctx, dq.data(), dkv.data(), threads == 1 ? first.data() : dr.data(), dk.data(), dv.data(), cos.f32(),
                                        sin.f32(), positions.data(), &c.s));
    CHECK(threads == 1 || dr.same_bits(first));
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array a(64, ORIBI_F32, 1);
  Plain<int32_t> positions({0, 1});
  oribi_latent_shape s = {2, 1, 2, 2, 2, 4, 4, 4, 4, 2, 8, 1, ORIBI_F32};
  const auto forward = [&] {
    return oribi_latent_forward(ctx, a.data(), a.data(), a.data(), a.data(), a.data(), a.f32(), a.f32(), positions.data(), &s);
  };
  s.rope = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rope must be even and at most 256, found 3", forward());
  s.rope = 2, s.v = 5;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "v must be at most nope + rope = 4, found 5", forward());
  s.v = 2, s.ld_k = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_k must be at least 4, found 3", forward());
  s.ld_k = 4, s.ld_kv = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_kv must be at least 4, found 3", forward());
  s.ld_kv = 4, s.ld_r = 1;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_r must be at least 2, found 1", forward());
  s.ld_r = 2;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_latent_backward: dkv is NULL",
               oribi_latent_backward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), a.f32(), a.f32(), positions.data(), &s));
  s.n = 0;
  CHECK_OK(ctx, oribi_latent_forward(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, &s));
}

/* Refused where the host can see it; on a card zeros, and told at the next synchronization. */
TEST(a_position_that_there_is_not) {
  Case c("position", {2, 1, 0, 2, 1, 0}, ORIBI_F32, true);
  Context ctx;
  Array q(c.q, ORIBI_F32), k(c.k, ORIBI_F32), v(c.v, ORIBI_F32), kv(c.kv, ORIBI_F32), r(c.r, ORIBI_F32), cos(c.angles.cos, ORIBI_F32), sin(c.angles.sin, ORIBI_F32);
  Plain<int32_t> positions({1, kPositions});
  const oribi_status status =
      oribi_latent_forward(ctx, q.data(), k.data(), v.data(), kv.data(), r.data(), cos.f32(), sin.f32(), positions.data(), &c.s);
  if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
    CHECK(status == ORIBI_INVALID_ARGUMENT && std::string(oribi_ctx_message(ctx)).find("positions[1] is 37") != std::string::npos);
    return;
  }
  CHECK(status == ORIBI_OK);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_latent", oribi_ctx_synchronize(ctx));
  CHECK(q.get(2) == 0 && q.get(3) == 0 && k.get(2) == 0 && k.get(0) != 0);
}
