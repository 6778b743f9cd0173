#include "attention_ref.h"

#include "check.h"

using namespace check;
using Values = std::vector<double>;

namespace {

constexpr double kUntouched = 7;

/* Values of ORIBI_ATTENTION_BACKWARD: the device's choice, and on a GPU the kernels for every card besides. */
#ifdef ORIBI_TEST_CUDA
constexpr const char* kWays[] = {"", "mma"};
#else
constexpr const char* kWays[] = {""};
#endif

/* Heads, head size, and what the packed sequences hold; spare: elements between rows that no kernel may touch. */
struct Case {
  int64_t h, h_kv, d;
  std::vector<int32_t> queries;
  std::vector<int32_t> keys; /* empty: those of the queries */
  int64_t spare = 0;
  int64_t window = 0;
  float softcap = 0;
};

std::vector<int32_t> starts_of(const std::vector<int32_t>& queries) {
  std::vector<int32_t> all{0};
  for (int32_t count : queries) all.push_back(all.back() + count);
  return all;
}

/* The sequences' caches lie in reverse order with gaps, as nothing promises any order. */
std::vector<int32_t> cache_starts_of(const std::vector<int32_t>& keys) {
  std::vector<int32_t> all(keys.size());
  int32_t row = 3;
  for (size_t i = keys.size(); i-- > 0; row += keys[i] + 2) all[i] = row;
  return all;
}

struct Problem {
  std::vector<int32_t> cu_seqlens, kv_start, kv_len;
  mutable Plain<int32_t> device_cu_seqlens, device_kv_start, device_kv_len;
  oribi_attention_shape shape; /* its pointers lead to the host's memory, for the reference */
  int64_t key_rows;
  Values q, k, v, d_o;

  Problem(const Case& c, oribi_dtype t)
      : cu_seqlens(starts_of(c.queries)), kv_start(cache_starts_of(c.keys)), kv_len(c.keys), device_cu_seqlens(cu_seqlens),
        device_kv_start(kv_start), device_kv_len(kv_len) {
    const int64_t n = cu_seqlens.back(), s = c.spare;
    const bool cache = !kv_len.empty();
    key_rows = cache ? kv_start[0] + kv_len[0] + 2 : n;
    shape = {n, static_cast<int64_t>(c.queries.size()), c.h, c.h_kv, c.d, c.h * c.d + s, c.h_kv * c.d + 2 * s,
             c.h_kv * c.d + 3 * s, c.h * c.d + 4 * s, cu_seqlens.data(), cache ? kv_start.data() : nullptr,
             cache ? kv_len.data() : nullptr, 1.3f / std::sqrt(static_cast<float>(c.d)), t, 0, c.window, c.softcap};
    Random random(static_cast<uint64_t>(c.d * 100 + c.h));
    q = rounded(random.normals(n * shape.ld_q, 0.1, 1.2), t);
    k = rounded(random.normals(key_rows * shape.ld_k, -0.2, 1.1), t);
    v = rounded(random.normals(key_rows * shape.ld_v, 0.3, 0.9), t);
    d_o = rounded(random.normals(n * shape.ld_o, -0.1, 0.8), t);
    where = std::string(name_of(t)) + " h=" + std::to_string(c.h) + " h_kv=" + std::to_string(c.h_kv) +
            " d=" + std::to_string(c.d) + " sequences=" + std::to_string(c.queries.size()) + " n=" + std::to_string(n) +
            (cache ? " cache" : "") + (c.window > 0 ? " window=" + std::to_string(c.window) : "") +
            (c.softcap > 0 ? " softcap" : "") + (c.spare > 0 ? " spare=" + std::to_string(c.spare) : "");
  }
  Problem(const Problem&) = delete;

  /* The shape with pointers into the memory of the device under test. */
  oribi_attention_shape on_device() const {
    oribi_attention_shape s = shape;
    s.cu_seqlens = device_cu_seqlens.data();
    if (!kv_len.empty()) s.kv_start = device_kv_start.data(), s.kv_len = device_kv_len.data();
    return s;
  }
};

/* Quick ones: all head sizes, several blocks of queries and of keys, but no long sequence and no whole layer. */
std::vector<Case> quick_ones(std::vector<Case> all) {
  constexpr int32_t kRows = 160, kKeys = 270;
  constexpr int64_t kHeads = 9;
  if (!quick()) return all;
  std::vector<Case> some;
  for (const Case& c : all) {
    const bool few = starts_of(c.queries).back() <= kRows && starts_of(c.keys).back() <= kKeys;
    if (few && c.h <= kHeads) some.push_back(c);
  }
  return some;
}

/* Quick: in bf16 only sizes of heads that are kernels of their own; the others differ in fp16 alike. */
bool left_out(const Case& c, oribi_dtype t) { return quick() && t == ORIBI_BF16 && c.d % 64 != 0; }

std::vector<Case> training_cases() {
  std::vector<Case> cases;
  for (int64_t d : {2, 16, 24, 64, 80, 96, 128, 256}) {
    cases.push_back({3, 1, d, {13, 0, 1, 70}, {}, 5});
    cases.push_back({2, 2, d, {1}, {}, 0});
    cases.push_back({8, 1, d, {0, 17, 0, 33, 0}, {}, 16});
    cases.push_back({4, 2, d, {1, 90, 40}, {}, 8, 0, 2.5f});
    cases.push_back({2, 1, d, {5, 150}, {}, 8, 7});
    cases.push_back({2, 1, d, {150, 2, 40}, {}, 0, 100, 3});
  }
  cases.push_back({1, 1, 64, {113}, {}, 3});
  cases.push_back({9, 3, 64, {1, 1, 1, 129, 200}, {}, 0});
  cases.push_back({2, 2, 24, {1023}, {}, 0});
  cases.push_back({2, 1, 64, {600}, {}, 0, 1});
  cases.push_back({2, 1, 128, {300, 257}, {}, 0, 130});
  cases.push_back({4, 2, 128, {700, 0, 64, 65}, {}, 0});
  cases.push_back({3, 1, 64, {513, 128, 1}, {}, 0});
  cases.push_back({3, 3, 96, {1, 640}, {}, 8, 65});
  cases.push_back({32, 8, 128, {130, 31}, {}, 0});
  cases.push_back({7, 1, 128, {200}, {}, 2});
  cases.push_back({6, 6, 64, {}, {}, 0});
  cases.push_back({6, 2, 64, {0, 0}, {}, 0});
  /* More sequences than a warp has lanes. */
  cases.push_back({2, 1, 32, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                              1, 0, 0, 0, 80, 1, 3, 66, 0, 2}, {}, 0});
  return quick_ones(cases);
}

std::vector<Case> cache_cases() {
  std::vector<Case> cases;
  for (int64_t d : {2, 24, 64, 80, 128, 256}) {
    cases.push_back({3, 1, d, {1, 1}, {1, 130}, 7}); /* decoding */
    cases.push_back({4, 4, d, {5, 0, 1}, {64, 9, 65}, 0});
    cases.push_back({8, 1, d, {33, 2}, {33, 200}, 2});
    cases.push_back({4, 2, d, {1, 1, 1}, {100, 3, 257}, 8, 40, 2});
    cases.push_back({4, 2, d, {20, 1}, {100, 257}, 8, 40, 2});
  }
  cases.push_back({9, 3, 64, {1}, {1023}, 0});
  cases.push_back({9, 3, 64, {70, 1, 0}, {513, 64, 0}, 0});
  cases.push_back({32, 8, 128, {1}, {2000}, 0});
  cases.push_back({7, 1, 128, {1, 3, 0, 2}, {600, 70, 5, 2}, 0});
  cases.push_back({4, 1, 64, {1}, {900}, 0, 3});
  return quick_ones(cases);
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

/* bf16 has no kernel where the loaded code is older than compute capability 8.0: asserted, not passed over. */
bool refused(oribi_ctx* ctx, oribi_dtype t, oribi_status status) {
  if (t != ORIBI_BF16 || status != ORIBI_UNSUPPORTED) return false;
  CHECK(std::string(oribi_ctx_message(ctx)).find("runs code for 7.") != std::string::npos);
  return true;
}

void check_forward(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  const oribi_attention_shape shape = p.on_device();
  const int64_t rows = p.shape.n * p.shape.h;
  Context ctx(2);
  Array q(p.q, t), k(p.k, t), v(p.v, t), o(p.d_o.size(), t, kUntouched), lse(rows, ORIBI_F32, kUntouched);
  Array workspace(workspace_floats(ctx, p, 0), ORIBI_F32, NAN);
  const auto forward = [&](Array& out, float* sums) {
    return oribi_attention_forward(ctx, out.data(), sums, q.data(), k.data(), v.data(), workspace.data(), &shape);
  };
  const oribi_status status = forward(o, lse.f32());
  if (refused(ctx, t, status)) return;
  CHECK_OK(ctx, status);
  Values exact_o, exact_lse, plain_o, plain_lse;
  reference_forward<double>(exact_o, exact_lse, p);
  reference_forward<float>(plain_o, plain_lse, p);
  compare("o", o.values(), exact_o, rounded(plain_o, t), t);
  compare("lse", lse.values(), exact_lse, plain_lse, ORIBI_F32, score_size(p));

  Array again(p.d_o.size(), t, kUntouched);
  CHECK_OK(ctx, forward(again, nullptr));
  CHECK(again.same_bits(o));
}

/* The arrays of a backward pass. */
struct Backward {
  oribi_dtype t;
  Array q, k, v, d_o, o, lse;

  Backward(const Problem& p, oribi_dtype type, const Values& o_values, const Values& lse_values)
      : t(type), q(p.q, t), k(p.k, t), v(p.v, t), d_o(p.d_o, t), o(o_values, t), lse(lse_values, ORIBI_F32) {}

  struct Out {
    Array dq, dk, dv;
    Out(const Problem& p, oribi_dtype t) : dq(p.q.size(), t, kUntouched), dk(p.k.size(), t, kUntouched), dv(p.v.size(), t, kUntouched) {}
    bool same_bits(const Out& x) const { return dq.same_bits(x.dq) && dk.same_bits(x.dk) && dv.same_bits(x.dv); }
  };

  oribi_status run(oribi_ctx* ctx, Out& out, const Problem& p) {
    const oribi_attention_shape shape = p.on_device();
    Array workspace(workspace_floats(ctx, p, 1), ORIBI_F32, NAN);
    return oribi_attention_backward(ctx, out.dq.data(), out.dk.data(), out.dv.data(), o.data(), lse.f32(), d_o.data(),
                                    q.data(), k.data(), v.data(), workspace.data(), &shape);
  }
};

void check_backward(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  Context ctx(2);
  Values o_values, lse_values;
  reference_forward<double>(o_values, lse_values, p);
  Backward backward(p, t, o_values, lse_values);
  const Gradients exact = reference_backward<double>(p), plain = reference_backward<float>(p);
  for (const char* way : kWays) {
    setenv("ORIBI_ATTENTION_BACKWARD", way, 1);
    Backward::Out out(p, t);
    const oribi_status status = backward.run(ctx, out, p);
    unsetenv("ORIBI_ATTENTION_BACKWARD");
    if (refused(ctx, t, status)) return;
    CHECK_OK(ctx, status);
    /* P = exp(S - lse) has the rounding of S as its relative error; dS is a difference of two numbers of the size of dP,
       sqrt(D). With one key the exact P is 1 and dS 0: all that is left is rounding. */
    const double size = score_size(p);
    const double difference = size * p.shape.scale * std::sqrt(static_cast<double>(c.d));
    compare("dq", out.dq.values(), exact.dq, rounded(plain.dq, t), t, difference * largest(p.k));
    compare("dk", out.dk.values(), exact.dk, rounded(plain.dk, t), t, difference * largest(p.q));
    compare("dv", out.dv.values(), exact.dv, rounded(plain.dv, t), t, size * largest(exact.dv));
  }
}

/* The second context with one thread repeats the first. */
void check_bits(Backward& backward, const Problem& p, oribi_dtype t) {
  Backward::Out first(p, t);
  {
    Context ctx(1);
    const oribi_status status = backward.run(ctx, first, p);
    if (refused(ctx, t, status)) return;
    CHECK_OK(ctx, status);
  }
  for (int32_t threads : {1, 2, 3, 7}) {
    Context ctx(threads);
    Backward::Out out(p, t);
    CHECK_OK(ctx, backward.run(ctx, out, p));
    CHECK(out.same_bits(first));
  }
}

void backward_bits(const Case& c, oribi_dtype t) {
  const Problem p(c, t);
  Values o_values, lse_values;
  reference_forward<double>(o_values, lse_values, p);
  Backward backward(p, t, o_values, lse_values);
  for (const char* way : kWays) {
    setenv("ORIBI_ATTENTION_BACKWARD", way, 1);
    check_bits(backward, p, t);
  }
  unsetenv("ORIBI_ATTENTION_BACKWARD");
}

}  // namespace

TEST(forward) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : training_cases())
      if (!left_out(c, t)) check_forward(c, t);
}

TEST(forward_with_a_cache) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : cache_cases())
      if (!left_out(c, t)) check_forward(c, t);
}

TEST(backward) {
  for (oribi_dtype t : kDtypes)
    for (const Case& c : training_cases())
      if (!left_out(c, t)) check_backward(c, t);
}

/* One long sequence divides the backward pass in two, many short ones leave it whole: the bits must be the same. */
TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    if (quick()) {
      backward_bits({3, 1, 64, {140}, {}, 0}, t);
      backward_bits({4, 1, 128, {90, 50}, {}, 0, 40}, t);
      continue;
    }
    backward_bits({3, 1, 64, {700}, {}, 0}, t);
    backward_bits({4, 2, 80, {13, 0, 400, 1, 64}, {}, 4}, t);
    backward_bits({1, 1, 24, {1023}, {}, 0}, t);
    backward_bits({4, 1, 128, {500, 300}, {}, 0, 200}, t);
  }
}

void check_reference(const Case& c) {
  const Problem p(c, ORIBI_F32);
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

TEST(reference_backward_by_finite_differences) {
  check_reference({6, 2, 4, {3, 0, 1, 5}, {}, 1});
  check_reference({4, 2, 4, {6, 9}, {}, 1, 3});
  check_reference({4, 2, 4, {6, 9}, {}, 1, 4, 1.5f});
}

/* The window and the cap against what they mean: a window as long as the sequence hides nothing, one key leaves v itself. */
TEST(window_and_softcap_in_the_reference) {
  const Problem all({2, 1, 8, {9}, {}, 0}, ORIBI_F32), wide({2, 1, 8, {9}, {}, 0, 9}, ORIBI_F32);
  const Problem narrow({2, 1, 8, {9}, {}, 0, 1}, ORIBI_F32), capped({2, 1, 8, {9}, {}, 0, 0, 1e6f}, ORIBI_F32);
  Values o, o_wide, o_narrow, o_capped, lse;
  reference_forward<double>(o, lse, all);
  reference_forward<double>(o_wide, lse, wide);
  reference_forward<double>(o_capped, lse, capped);
  reference_forward<double>(o_narrow, lse, narrow);
  compare_within("window of all keys", o_wide, o, 0);
  compare_within("a cap above all scores", o_capped, o, 1e-9);
  for (int64_t row = 0; row < 9; row++)
    for (int64_t i = 0; i < 16; i++) CHECK(o_narrow[row * 16 + i] == narrow.v[row * 8 + i % 8]);
}

/* Scores of several thousands: only a softmax relative to its maximum survives them. */
TEST(large_scores) {
  for (oribi_dtype t : kDtypes) {
    Problem p({2, 1, 64, {113}, {}, 0}, t);
    p.shape.scale = 200;
    const oribi_attention_shape shape = p.on_device();
    Context ctx;
    Array q(p.q, t), k(p.k, t), v(p.v, t), o(p.d_o.size(), t), lse(226, ORIBI_F32), workspace(workspace_floats(ctx, p, 0), ORIBI_F32);
    const oribi_status status =
        oribi_attention_forward(ctx, o.data(), lse.f32(), q.data(), k.data(), v.data(), workspace.data(), &shape);
    if (refused(ctx, t, status)) continue;
    CHECK_OK(ctx, status);
    Values exact_o, exact_lse, plain_o, plain_lse;
    reference_forward<double>(exact_o, exact_lse, p);
    reference_forward<float>(plain_o, plain_lse, p);
    CHECK(largest(exact_lse) > 3000);
    compare("o", o.values(), exact_o, rounded(plain_o, t), t);
    compare("lse", lse.values(), exact_lse, plain_lse, ORIBI_F32);
  }
}

/* A scale may be negative or 0: the largest score is not that of the largest product. */
TEST(any_scale) {
  for (oribi_dtype t : kDtypes)
    for (float scale : {-0.4f, 0.0f}) {
      Problem p({2, 1, 64, {70}, {}, 0}, t);
      p.shape.scale = scale;
      const oribi_attention_shape shape = p.on_device();
      Context ctx;
      Array q(p.q, t), k(p.k, t), v(p.v, t), o(p.d_o.size(), t), workspace(workspace_floats(ctx, p, 0), ORIBI_F32);
      const oribi_status status =
          oribi_attention_forward(ctx, o.data(), nullptr, q.data(), k.data(), v.data(), workspace.data(), &shape);
      if (refused(ctx, t, status)) continue;
      CHECK_OK(ctx, status);
      Values exact_o, plain_o, sums;
      reference_forward<double>(exact_o, sums, p);
      reference_forward<float>(plain_o, sums, p);
      compare("o", o.values(), exact_o, rounded(plain_o, t), t);
    }
}

/* Packed sequences do not see each other: one full of NaN leaves the rest as they are. */
TEST(not_a_number_stays_in_its_sequence) {
  for (oribi_dtype t : kDtypes) {
    Problem p({3, 1, 24, {20, 9, 31}, {}, 0}, t);
    for (int64_t i = 20 * p.shape.ld_k; i < 29 * p.shape.ld_k; i++) p.k[i] = p.v[i] = NAN;
    const oribi_attention_shape shape = p.on_device();
    Context ctx;
    Array q(p.q, t), k(p.k, t), v(p.v, t), o(p.d_o.size(), t), lse(180, ORIBI_F32), workspace(workspace_floats(ctx, p, 0), ORIBI_F32);
    const oribi_status status =
        oribi_attention_forward(ctx, o.data(), lse.f32(), q.data(), k.data(), v.data(), workspace.data(), &shape);
    if (refused(ctx, t, status)) continue;
    CHECK_OK(ctx, status);
    for (int64_t i = 0; i < 60 * p.shape.ld_o; i++)
      CHECK(std::isnan(o.get(i)) == (i / p.shape.ld_o >= 20 && i / p.shape.ld_o < 29));
  }
}

/* The same of gradients: a tile may hold the last rows of one sequence and the first of the next. */
void check_gradients_beside_nan(int64_t d, oribi_dtype t) {
  Problem p({4, 2, d, {70, 9, 131}, {}, 0}, t);
  const auto begin = p.cu_seqlens[1], end = p.cu_seqlens[2];
  Values o_values, lse_values;
  reference_forward<double>(o_values, lse_values, p);
  const auto spoil = [&](Values& x, int64_t ld) { std::fill(x.begin() + begin * ld, x.begin() + end * ld, NAN); };
  spoil(p.q, p.shape.ld_q), spoil(p.k, p.shape.ld_k), spoil(p.v, p.shape.ld_v), spoil(p.d_o, p.shape.ld_o);
  spoil(o_values, p.shape.ld_o), spoil(lse_values, p.shape.h);
  Context ctx;
  Backward backward(p, t, o_values, lse_values);
  Backward::Out out(p, t);
  const oribi_status status = backward.run(ctx, out, p);
  if (refused(ctx, t, status)) return;
  CHECK_OK(ctx, status);
  const auto spoiled = [&](const Values& x, int64_t ld) { /* of the other sequences */
    int64_t found = 0;
    for (int64_t i = 0; i < p.shape.n * ld; i++) found += !std::isfinite(x[i]) && (i / ld < begin || i / ld >= end);
    return found;
  };
  CHECK(spoiled(out.dq.values(), p.shape.ld_q) == 0);
  CHECK(spoiled(out.dk.values(), p.shape.ld_k) == 0);
  CHECK(spoiled(out.dv.values(), p.shape.ld_v) == 0);
}

TEST(not_a_number_stays_in_its_sequence_backward) {
  for (const char* way : kWays) {
    setenv("ORIBI_ATTENTION_BACKWARD", way, 1);
    for (oribi_dtype t : kDtypes)
      for (int64_t d : {24, 64, 128}) check_gradients_beside_nan(d, t);
  }
  unsetenv("ORIBI_ATTENTION_BACKWARD");
}

TEST(arguments) {
  Context ctx;
  const Problem p({4, 2, 8, {3, 2}, {3, 4}, 0}, ORIBI_F32);
  const oribi_attention_shape shape = p.on_device();
  Array a(4096, ORIBI_F32, 3), workspace(workspace_floats(ctx, p, 1), ORIBI_F32);
  const auto forward = [&](const oribi_attention_shape& s) {
    return oribi_attention_forward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), workspace.data(), &s);
  };
  const auto changed = [&shape](auto change) {
    oribi_attention_shape s = shape;
    change(s);
    return s;
  };
  using S = oribi_attention_shape;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "h must be a multiple of h_kv, found 4 and 3", forward(changed([](S& s) { s.h_kv = 3; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "d must be even and 2 to 256, found 7", forward(changed([](S& s) { s.d = 7; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "found 258", forward(changed([](S& s) { s.d = 258; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_v must be at least 16, found 15", forward(changed([](S& s) { s.ld_v = 15; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "both be NULL", forward(changed([](S& s) { s.kv_len = nullptr; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "window must be at least 0, found -1", forward(changed([](S& s) { s.window = -1; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "softcap must be finite and at least 0", forward(changed([](S& s) { s.softcap = -1; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "max_seqlen must be at least 0", forward(changed([](S& s) { s.max_seqlen = -1; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "cu_seqlens is NULL", forward(changed([](S& s) { s.cu_seqlens = nullptr; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "workspace is NULL",
               oribi_attention_forward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), nullptr, &shape));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "no backward pass through a cache",
               oribi_attention_backward(ctx, a.data(), a.data(), a.data(), a.data(), a.f32(), a.data(), a.data(), a.data(),
                                        a.data(), workspace.data(), &shape));
}

#ifndef ORIBI_TEST_CUDA
/* What the pointers lead to: only a CPU can look there before it runs. */
TEST(sequences) {
  Context ctx;
  const Problem p({4, 2, 8, {3, 2}, {3, 4}, 0}, ORIBI_F32);
  Array a(4096, ORIBI_F32, 3), workspace(workspace_floats(ctx, p, 1), ORIBI_F32);
  const auto forward = [&](auto change) {
    oribi_attention_shape s = p.shape;
    change(s);
    return oribi_attention_forward(ctx, a.data(), nullptr, a.data(), a.data(), a.data(), workspace.data(), &s);
  };
  using S = oribi_attention_shape;
  const std::vector<int32_t> falling{0, 7, 5}, late{1, 3, 5}, few{1, 4};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "must not fall, found 5 after 7",
               forward([&](S& s) { s.cu_seqlens = falling.data(), s.kv_start = s.kv_len = nullptr; }));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "must begin with 0", forward([&](S& s) { s.cu_seqlens = late.data(); }));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "kv_len[0] must be at least the 3 queries of its sequence, found 1",
               forward([&](S& s) { s.kv_len = few.data(); }));
}
#endif
