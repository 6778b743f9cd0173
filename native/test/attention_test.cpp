#include "attention_ref.h"

#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

constexpr double kUntouched = 7;

/* Heads, head size, and what the packed sequences hold; spare: elements between rows that no kernel may touch. */
struct Case {
  int64_t h, h_kv, d;
  std::vector<int32_t> queries;
  std::vector<int32_t> keys; /* empty: those of the queries */
  int64_t spare = 0;
};

struct Problem {
  oribi_attention_shape shape;
  std::vector<int32_t> cu_seqlens{0}, kv_start, kv_len;
  int64_t key_rows;
  Values q, k, v, d_o;

  Problem(const Case& c, oribi_dtype t) {
    for (int32_t count : c.queries) cu_seqlens.push_back(cu_seqlens.back() + count);
    const int64_t n = cu_seqlens.back(), s = c.spare;
    key_rows = n;
    if (!c.keys.empty()) {
      /* The sequences' caches lie in reverse order with gaps, as nothing promises any order. */
      kv_len = c.keys;
      kv_start.resize(c.keys.size());
      key_rows = 3;
      for (size_t i = c.keys.size(); i-- > 0; key_rows += kv_len[i] + 2) kv_start[i] = static_cast<int32_t>(key_rows);
    }
    shape = {n, static_cast<int64_t>(c.queries.size()), c.h, c.h_kv, c.d, c.h * c.d + s, c.h_kv * c.d + 2 * s,
             c.h_kv * c.d + 3 * s, c.h * c.d + 4 * s, cu_seqlens.data(), kv_start.empty() ? nullptr : kv_start.data(),
             kv_len.empty() ? nullptr : kv_len.data(), 1.3f / std::sqrt(static_cast<float>(c.d)), t, 0, 0, 0};
    Random random(static_cast<uint64_t>(c.d * 100 + c.h));
    q = rounded(random.normals(n * shape.ld_q, 0.1, 1.2), t);
    k = rounded(random.normals(key_rows * shape.ld_k, -0.2, 1.1), t);
    v = rounded(random.normals(key_rows * shape.ld_v, 0.3, 0.9), t);
    d_o = rounded(random.normals(n * shape.ld_o, -0.1, 0.8), t);
    where = std::string(name_of(t)) + " h=" + std::to_string(c.h) + " h_kv=" + std::to_string(c.h_kv) +
            " d=" + std::to_string(c.d) + " sequences=" + std::to_string(c.queries.size()) + " n=" + std::to_string(n);
  }
  Problem(const Problem&) = delete;
};

std::vector<Case> training_cases() {
  std::vector<Case> cases;
  for (int64_t d : {2, 24, 64, 80, 128, 256}) {
    cases.push_back({3, 1, d, {13, 0, 1, 70}, {}, 5});
    cases.push_back({2, 2, d, {1}, {}, 0});
    cases.push_back({8, 1, d, {0, 17, 0, 33, 0}, {}, 16});
  }
  cases.push_back({1, 1, 64, {113}, {}, 3});
  cases.push_back({9, 3, 64, {1, 1, 1, 129, 200}, {}, 0});
  cases.push_back({2, 2, 24, {1023}, {}, 0});
  cases.push_back({6, 6, 64, {}, {}, 0});
  cases.push_back({6, 2, 64, {0, 0}, {}, 0});
  return cases;
}

std::vector<Case> cache_cases() {
  std::vector<Case> cases;
  for (int64_t d : {2, 24, 64, 80, 128, 256}) {
    cases.push_back({3, 1, d, {1, 1}, {1, 130}, 7}); /* decoding */
    cases.push_back({4, 4, d, {5, 0, 1}, {64, 9, 65}, 0});
    cases.push_back({8, 1, d, {33, 2}, {33, 200}, 2});
  }
  cases.push_back({9, 3, 64, {1}, {1023}, 0});
  cases.push_back({9, 3, 64, {70, 1, 0}, {513, 64, 0}, 0});
  return cases;
}

template <class Real>
std::vector<Real> as(const Values& values) {
  return std::vector<Real>(values.begin(), values.end());
}

template <class Real>
void reference_forward(Values& o, Values& lse, const Problem& p) {
  std::vector<Real> out(p.d_o.size(), static_cast<Real>(kUntouched)), sums(p.shape.n * p.shape.h);
  reference::attention_forward(out.data(), sums.data(), as<Real>(p.q).data(), as<Real>(p.k).data(),
                               as<Real>(p.v).data(), p.shape);
  o.assign(out.begin(), out.end());
  lse.assign(sums.begin(), sums.end());
}

struct Gradients {
  Values dq, dk, dv;
};

template <class Real>
Gradients reference_backward(const Problem& p) {
  const Real fill = static_cast<Real>(kUntouched);
  std::vector<Real> dq(p.q.size(), fill), dk(p.k.size(), fill), dv(p.v.size(), fill);
  reference::attention_backward(dq.data(), dk.data(), dv.data(), as<Real>(p.d_o).data(), as<Real>(p.q).data(),
                                as<Real>(p.k).data(), as<Real>(p.v).data(), p.shape);
  return {Values(dq.begin(), dq.end()), Values(dk.begin(), dk.end()), Values(dv.begin(), dv.end())};
}

size_t workspace_floats(oribi_ctx* ctx, const Problem& p, int32_t backward) {
  const int64_t bytes = oribi_attention_workspace(ctx, &p.shape, backward);
  CHECK(bytes > 0 && bytes % 64 == 0);
  return static_cast<size_t>(bytes / 4);
}

double root_mean_square(const Values& x) {
  double sum = 0;
  for (double value : x) sum += value * value;
  return x.empty() ? 0 : std::sqrt(sum / static_cast<double>(x.size()));
}

/* Roundings in a score are of the size of its partial sums, at most of the sum of D products without their signs. */
double score_size(const Problem& p) {
  const double products = p.shape.scale * root_mean_square(p.q) * root_mean_square(p.k) * static_cast<double>(p.shape.d);
  return std::fmax(1, products);
}

void check_forward(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  const int64_t rows = p.shape.n * p.shape.h;
  Context ctx(2);
  Array q(p.q, t), k(p.k, t), v(p.v, t), o(p.d_o.size(), t, kUntouched), lse(rows, ORIBI_F32, kUntouched);
  Array workspace(workspace_floats(ctx, p, 0), ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_attention_forward(ctx, o.data(), lse.f32(), q.data(), k.data(), v.data(), workspace.data(), &p.shape));
  Values exact_o, exact_lse, plain_o, plain_lse;
  reference_forward<double>(exact_o, exact_lse, p);
  reference_forward<float>(plain_o, plain_lse, p);
  compare("o", o.values(), exact_o, rounded(plain_o, t), t);
  compare("lse", lse.values(), exact_lse, plain_lse, ORIBI_F32, score_size(p));

  Array again(p.d_o.size(), t, kUntouched);
  CHECK_OK(ctx, oribi_attention_forward(ctx, again.data(), nullptr, q.data(), k.data(), v.data(), workspace.data(), &p.shape));
  CHECK(again.same_bits(o));
}

void check_backward(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  Context ctx(2);
  Values o_values, lse_values;
  reference_forward<double>(o_values, lse_values, p);
  Array q(p.q, t), k(p.k, t), v(p.v, t), d_o(p.d_o, t), o(o_values, t), lse(lse_values, ORIBI_F32);
  Array dq(p.q.size(), t, kUntouched), dk(p.k.size(), t, kUntouched), dv(p.v.size(), t, kUntouched);
  Array workspace(workspace_floats(ctx, p, 1), ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_attention_backward(ctx, dq.data(), dk.data(), dv.data(), o.data(), lse.f32(), d_o.data(), q.data(),
                                         k.data(), v.data(), workspace.data(), &p.shape));
  const Gradients exact = reference_backward<double>(p), plain = reference_backward<float>(p);
  /* P = exp(S - lse) has the rounding of S as its relative error; dS is a difference of two numbers of the size of dP,
     sqrt(D). With one key the exact P is 1 and dS 0: all that is left is rounding. */
  const double size = score_size(p);
  const double difference = size * p.shape.scale * std::sqrt(static_cast<double>(c.d));
  compare("dq", dq.values(), exact.dq, rounded(plain.dq, t), t, difference * largest(p.k));
  compare("dk", dk.values(), exact.dk, rounded(plain.dk, t), t, difference * largest(p.q));
  compare("dv", dv.values(), exact.dv, rounded(plain.dv, t), t, size * largest(exact.dv));
}

void backward_bits(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  Values o_values, lse_values;
  reference_forward<double>(o_values, lse_values, p);
  Array q(p.q, t), k(p.k, t), v(p.v, t), d_o(p.d_o, t), o(o_values, t), lse(lse_values, ORIBI_F32);
  Array first_dq(p.q.size(), t), first_dk(p.k.size(), t), first_dv(p.v.size(), t);
  for (int32_t threads : {1, 2, 3, 7}) {
    Context ctx(threads);
    Array dq(p.q.size(), t), dk(p.k.size(), t), dv(p.v.size(), t), workspace(workspace_floats(ctx, p, 1), ORIBI_F32, NAN);
    const bool first = threads == 1;
    CHECK_OK(ctx, oribi_attention_backward(ctx, (first ? first_dq : dq).data(), (first ? first_dk : dk).data(),
                                           (first ? first_dv : dv).data(), o.data(), lse.f32(), d_o.data(), q.data(),
                                           k.data(), v.data(), workspace.data(), &p.shape));
    CHECK(first || (dq.same_bits(first_dq) && dk.same_bits(first_dk) && dv.same_bits(first_dv)));
  }
}

}  // namespace

TEST(forward) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : training_cases()) check_forward(c, t);
}

TEST(forward_with_a_cache) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : cache_cases()) check_forward(c, t);
}

TEST(backward) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : training_cases()) check_backward(c, t);
}

/* One long sequence divides the backward pass in two, many short ones leave it whole: the bits must be the same. */
TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    backward_bits({3, 1, 64, {700}, {}, 0}, t);
    backward_bits({4, 2, 80, {13, 0, 400, 1, 64}, {}, 4}, t);
    backward_bits({1, 1, 24, {1023}, {}, 0}, t);
  }
}

TEST(reference_backward_by_finite_differences) {
  const Problem p({6, 2, 4, {3, 0, 1, 5}, {}, 1}, ORIBI_F32);
  const auto loss = [&p](const Values& q, const Values& k, const Values& v) {
    Values o(p.d_o.size()), lse(p.shape.n * p.shape.h);
    reference::attention_forward(o.data(), lse.data(), q.data(), k.data(), v.data(), p.shape);
    double sum = 0;
    for (int64_t row = 0; row < p.shape.n; row++)
      for (int64_t i = 0; i < p.shape.h * p.shape.d; i++) sum += o[row * p.shape.ld_o + i] * p.d_o[row * p.shape.ld_o + i];
    return sum;
  };
  Gradients g{Values(p.q.size()), Values(p.k.size()), Values(p.v.size())};
  reference::attention_backward(g.dq.data(), g.dk.data(), g.dv.data(), p.d_o.data(), p.q.data(), p.k.data(), p.v.data(),
                                p.shape);
  compare_derivative("dq", p.q, g.dq, [&](const Values& q) { return loss(q, p.k, p.v); });
  compare_derivative("dk", p.k, g.dk, [&](const Values& k) { return loss(p.q, k, p.v); });
  compare_derivative("dv", p.v, g.dv, [&](const Values& v) { return loss(p.q, p.k, v); });
}

/* Scores of several thousands: only a softmax relative to its maximum survives them. */
TEST(large_scores) {
  Problem p({2, 1, 64, {113}, {}, 0}, ORIBI_F32);
  p.shape.scale = 200;
  Context ctx;
  Array q(p.q, ORIBI_F32), k(p.k, ORIBI_F32), v(p.v, ORIBI_F32), o(p.d_o.size(), ORIBI_F32), lse(226, ORIBI_F32);
  Array workspace(workspace_floats(ctx, p, 0), ORIBI_F32);
  CHECK_OK(ctx, oribi_attention_forward(ctx, o.data(), lse.f32(), q.data(), k.data(), v.data(), workspace.data(), &p.shape));
  Values exact_o, exact_lse, plain_o, plain_lse;
  reference_forward<double>(exact_o, exact_lse, p);
  reference_forward<float>(plain_o, plain_lse, p);
  CHECK(largest(exact_lse) > 3000);
  compare("o", o.values(), exact_o, plain_o, ORIBI_F32);
  compare("lse", lse.values(), exact_lse, plain_lse, ORIBI_F32);
}

/* Packed sequences do not see each other: one full of NaN leaves the rest as they are. */
TEST(not_a_number_stays_in_its_sequence) {
  Problem p({3, 1, 24, {20, 9, 31}, {}, 0}, ORIBI_F32);
  for (int64_t i = 20 * p.shape.ld_k; i < 29 * p.shape.ld_k; i++) p.k[i] = p.v[i] = NAN;
  Context ctx;
  Array q(p.q, ORIBI_F32), k(p.k, ORIBI_F32), v(p.v, ORIBI_F32), o(p.d_o.size(), ORIBI_F32), lse(180, ORIBI_F32);
  Array workspace(workspace_floats(ctx, p, 0), ORIBI_F32);
  CHECK_OK(ctx, oribi_attention_forward(ctx, o.data(), lse.f32(), q.data(), k.data(), v.data(), workspace.data(), &p.shape));
  for (int64_t i = 0; i < 60 * p.shape.ld_o; i++)
    CHECK(std::isnan(o.get(i)) == (i / p.shape.ld_o >= 20 && i / p.shape.ld_o < 29));
}

TEST(arguments) {
  Context ctx;
  Problem p({4, 2, 8, {3, 2}, {3, 4}, 0}, ORIBI_F32);
  Array a(4096, ORIBI_F32, 3), workspace(workspace_floats(ctx, p, 1), ORIBI_F32);
  const auto forward = [&](const oribi_attention_shape& s) {
    return oribi_attention_forward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), workspace.data(), &s);
  };
  const auto changed = [&p](auto change) {
    oribi_attention_shape s = p.shape;
    change(s);
    return s;
  };
  using S = oribi_attention_shape;
  const std::vector<int32_t> falling{0, 7, 5}, late{1, 3, 5}, few{1, 4};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "h must be a multiple of h_kv, found 4 and 3", forward(changed([](S& s) { s.h_kv = 3; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "d must be even and 2 to 256, found 7", forward(changed([](S& s) { s.d = 7; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "found 258", forward(changed([](S& s) { s.d = 258; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_v must be at least 16, found 15", forward(changed([](S& s) { s.ld_v = 15; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "both be NULL", forward(changed([](S& s) { s.kv_len = nullptr; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "must not fall, found 5 after 7", forward(changed([&](S& s) { s.cu_seqlens = falling.data(), s.kv_start = s.kv_len = nullptr; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "must begin with 0", forward(changed([&](S& s) { s.cu_seqlens = late.data(); })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "kv_len[0] must be at least the 3 queries of its sequence, found 1",
               forward(changed([&](S& s) { s.kv_len = few.data(); })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL",
               oribi_attention_forward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), nullptr, &p.shape));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "no backward pass through a cache",
               oribi_attention_backward(ctx, a.data(), a.data(), a.data(), a.data(), a.f32(), a.data(), a.data(), a.data(),
                                        a.data(), workspace.data(), &p.shape));
}
