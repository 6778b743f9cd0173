/* The router, the sort of its choices, the sum of a token's experts and the weighted glu. */
#include "check.h"
#include "experts_ref.h"

using namespace check;
using Values = std::vector<double>;
using Indices = std::vector<int32_t>;

namespace {

/* Awkward ones, then Mixtral, Qwen3-MoE, DeepSeek V2-Lite, V2 (groups by their best) and V3 (by their two best, a bias). */
struct Routing {
  oribi_router_shape shape;
  bool bias;
};
const Routing kRoutings[] = {{{1, 1, 1, 1, 1, 1, ORIBI_SOFTMAX, 0, 1.0f, ORIBI_F32}, false},
                             {{13, 5, 3, 1, 1, 1, ORIBI_SOFTMAX, 1, 0.5f, ORIBI_F32}, false},
                             {{29, 33, 32, 1, 1, 1, ORIBI_SIGMOID, 1, 2.5f, ORIBI_F32}, true},
                             {{7, 1023, 8, 31, 3, 2, ORIBI_SIGMOID, 0, 1.0f, ORIBI_F32}, true},
                             {{113, 8, 2, 1, 1, 1, ORIBI_SOFTMAX, 1, 1.0f, ORIBI_F32}, false},
                             {{100, 128, 8, 1, 1, 1, ORIBI_SOFTMAX, 1, 1.0f, ORIBI_F32}, false},
                             {{50, 64, 6, 1, 1, 1, ORIBI_SOFTMAX, 0, 1.0f, ORIBI_F32}, false},
                             {{60, 160, 6, 8, 3, 1, ORIBI_SOFTMAX, 0, 16.0f, ORIBI_F32}, false},
                             {{101, 256, 8, 8, 4, 2, ORIBI_SIGMOID, 1, 2.5f, ORIBI_F32}, true}};

struct RouterCase {
  oribi_router_shape s;
  Values logits, bias, dweight;

  RouterCase(const Routing& r, oribi_dtype t) : s(r.shape) {
    s.t = t;
    where = "router n=" + std::to_string(s.n) + " experts=" + std::to_string(s.experts) + " k=" + std::to_string(s.k) + " " + name_of(t);
    Random random(static_cast<uint64_t>(s.n * 1009 + s.experts));
    logits = rounded(random.normals(s.n * s.experts, 0.2, 1.5), t);
    if (r.bias) bias = rounded(random.normals(s.experts, 0, 0.2), ORIBI_F32);
    dweight = rounded(random.normals(s.n * s.k), ORIBI_F32);
  }

  /* What the library chooses. */
  Indices choose(oribi_ctx* ctx, Values* weight) {
    Array in(logits, s.t), added(bias, ORIBI_F32), out(s.n * s.k, ORIBI_F32, NAN);
    Plain<int32_t> expert(s.n * s.k, -7);
    CHECK_OK(ctx, oribi_router_forward(ctx, expert.data(), out.f32(), in.data(), bias.empty() ? nullptr : added.f32(), &s));
    *weight = out.values();
    return expert.values();
  }
};

bool valid(const Indices& expert, const oribi_router_shape& s) {
  for (int64_t i = 0; i < s.n; i++) {
    for (int64_t j = 0; j < s.k; j++) {
      const int32_t e = expert[i * s.k + j];
      if (e < 0 || e >= s.experts) return false;
      for (int64_t l = 0; l < j; l++) {
        if (expert[i * s.k + l] == e) return false;
      }
    }
  }
  return true;
}

void check_router(const Routing& r, oribi_dtype t) {
  RouterCase c(r, t);
  Context ctx;
  Values weight;
  const Indices expert = c.choose(ctx, &weight);
  CHECK(valid(expert, c.s));
  if (!valid(expert, c.s)) return;
  /* The choices, largest first, are the reference's but for a rounding where two are nearly equal. */
  Values found, wanted;
  for (int64_t i = 0; i < c.s.n; i++) {
    const Values choice = reference::router_choice<double>(c.logits.data() + i * c.s.experts, c.bias.empty() ? nullptr : c.bias.data(), c.s);
    for (int64_t e : reference::largest_of(choice, c.s.k)) wanted.push_back(choice[e]);
    for (int64_t j = 0; j < c.s.k; j++) found.push_back(choice[expert[i * c.s.k + j]]);
  }
  compare_within("choice", found, wanted, 1e-6);
  compare("weight", weight, reference::router_weights<double>(c.logits, expert, c.s),
          reference::router_weights<float>(c.logits, expert, c.s), ORIBI_F32);

  Array logits(c.logits, t), dlogits(c.logits.size(), t, NAN), dweight(c.dweight, ORIBI_F32);
  Plain<int32_t> chosen(expert);
  CHECK_OK(ctx, oribi_router_backward(ctx, dlogits.data(), chosen.data(), dweight.f32(), logits.data(), &c.s));
  compare("dlogits", dlogits.values(), reference::router_backward<double>(c.dweight, c.logits, expert, c.s),
          rounded(reference::router_backward<float>(c.dweight, c.logits, expert, c.s), t), t, largest(c.dweight) * c.s.scale);
}

/* Random choices of `used` of the experts, so that others have no rows. */
Indices random_experts(int64_t n, int64_t k, int64_t experts, int64_t used) {
  Random random(static_cast<uint64_t>(n * 31 + experts));
  Indices expert(n * k);
  for (int32_t& e : expert) e = static_cast<int32_t>((random.below(used) * 7919 + 3) % experts);
  return expert;
}

struct Routed {
  Plain<int32_t> offsets, pair, token, row;

  Routed(oribi_ctx* ctx, const Indices& expert, int64_t n, int64_t k, int64_t experts)
      : offsets(experts + 1, -1), pair(n * k, -1), token(n * k, -1), row(n * k, -1) {
    Plain<int32_t> chosen(expert);
    Plain<uint8_t> workspace(oribi_route_workspace(n, k, experts), 0xcd);
    CHECK_OK(ctx, oribi_route(ctx, offsets.data(), pair.data(), token.data(), row.data(), chosen.data(), workspace.data(), n, k, experts));
  }
};

void check_route(int64_t n, int64_t k, int64_t experts, int64_t used) {
  where = "route n=" + std::to_string(n) + " k=" + std::to_string(k) + " experts=" + std::to_string(experts) + " used=" + std::to_string(used);
  Context ctx;
  const Indices expert = random_experts(n, k, experts, used);
  const Routed r(ctx, expert, n, k, experts);
  const Indices pair = reference::sorted_pairs(expert), offsets = r.offsets.values(), row = r.row.values(), token = r.token.values();
  CHECK(r.pair.values() == pair);
  for (int64_t i = 0; i < n * k; i++) {
    const int32_t e = expert[pair[i]];
    CHECK(row[pair[i]] == i && token[i] == pair[i] / k && offsets[e] <= i && i < offsets[e + 1]);
  }
  CHECK(offsets[0] == 0 && offsets[experts] == n * k);
}

void check_unroute(int64_t n, int64_t k, int64_t c, oribi_dtype t, bool accumulate) {
  where = "unroute n=" + std::to_string(n) + " k=" + std::to_string(k) + " c=" + std::to_string(c) + " " + name_of(t);
  Context ctx;
  const Indices expert = random_experts(n, k, 9, 7);
  Routed r(ctx, expert, n, k, 9);
  Random random(static_cast<uint64_t>(n * 13 + c));
  const Values x = rounded(random.normals(n * k * c, 0.1), t), y0 = rounded(random.normals(n * c), t);
  Array in(x, t), y(accumulate ? y0 : Values(n * c, NAN), t);
  CHECK_OK(ctx, oribi_unroute(ctx, y.data(), in.data(), r.row.data(), n, k, c, accumulate, t));
  const Indices row = r.row.values();
  compare("y", y.values(), reference::unroute<double>(y0, x, row, n, k, c, accumulate),
          rounded(reference::unroute<float>(y0, x, row, n, k, c, accumulate), t), t, largest(x));
}

void check_weighted_glu(int64_t n, int64_t f_size, oribi_activation act, oribi_dtype t) {
  where = "weighted glu n=" + std::to_string(n) + " f=" + std::to_string(f_size) + " act=" + std::to_string(act) + " " + name_of(t);
  Context ctx;
  Random random(static_cast<uint64_t>(n * 17 + f_size));
  const Values gu = rounded(random.normals(2 * n * f_size, 0.1, 1.4), t), df = rounded(random.normals(n * f_size), t);
  const Values weight = rounded(random.normals(n, 0.3, 0.2), ORIBI_F32);
  const Indices pair = reference::sorted_pairs(random_experts(n, 1, 5, 5));
  const auto identity = [](double x) { return x; };
  const auto round = [t](double x) { return round_to(x, t); };
  Array in(gu, t), gradient(df, t), weights(weight, ORIBI_F32), f(n * f_size, t, NAN), dgu(2 * n * f_size, t, NAN), again(n * f_size, t, NAN);
  Array dweight(n, ORIBI_F32, NAN);
  Plain<int32_t> pairs(pair);
  CHECK_OK(ctx, oribi_weighted_glu_forward(ctx, f.data(), in.data(), weights.f32(), pairs.data(), n, f_size, act, t));
  compare("f", f.values(), reference::weighted_glu_forward<double>(gu, weight, pair, n, f_size, act, identity),
          rounded(reference::weighted_glu_forward<float>(gu, weight, pair, n, f_size, act, round), t), t);
  CHECK_OK(ctx, oribi_weighted_glu_backward(ctx, dgu.data(), again.data(), dweight.f32(), gradient.data(), in.data(), weights.f32(),
                                            pairs.data(), n, f_size, act, t));
  CHECK(again.same_bits(f));
  Values exact_dweight, plain_dweight;
  const Values exact = reference::weighted_glu_backward<double>(exact_dweight, df, gu, weight, pair, n, f_size, act, identity);
  const Values plain = reference::weighted_glu_backward<float>(plain_dweight, df, gu, weight, pair, n, f_size, act, round);
  compare("dgu", dgu.values(), exact, rounded(plain, t), t);
  compare("dweight", dweight.values(), exact_dweight, plain_dweight, ORIBI_F32, largest(gu) * largest(gu) * largest(df));
  /* In place, and without what is not wanted. */
  Array over(gu, t), f_over(df, t), third(2 * n * f_size, t, NAN);
  CHECK_OK(ctx, oribi_weighted_glu_backward(ctx, over.data(), f_over.data(), nullptr, f_over.data(), over.data(), weights.f32(), pairs.data(), n,
                                            f_size, act, t));
  CHECK(over.same_bits(dgu) && f_over.same_bits(f));
  CHECK_OK(ctx, oribi_weighted_glu_backward(ctx, third.data(), nullptr, dweight.f32(), gradient.data(), in.data(), weights.f32(), pairs.data(),
                                            n, f_size, act, t));
  CHECK(third.same_bits(dgu));
}

}  // namespace

TEST(router) {
  for (oribi_dtype t : kDtypes) {
    for (const Routing& r : kRoutings) check_router(r, t);
  }
}

/* Equal choices: the lower index, experts and groups alike. */
TEST(ties) {
  where = "ties";
  Context ctx;
  RouterCase c({{1, 12, 4, 4, 2, 1, ORIBI_SOFTMAX, 1, 1.0f, ORIBI_F32}, false}, ORIBI_F32);
  /*          group 0        1           2           3; the worth of groups 1 and 2 is equal */
  c.logits = {9, 0, 0, /**/ 1, 5, 5, /**/ 5, 5, 5, /**/ 4, 4, 4};
  Values weight;
  CHECK((c.choose(ctx, &weight) == Indices{0, 4, 5, 3}));
  c.s.top_groups = c.s.groups = 1;
  CHECK((c.choose(ctx, &weight) == Indices{0, 4, 5, 6}));
  c.logits.assign(12, 0.25);
  CHECK((c.choose(ctx, &weight) == Indices{0, 1, 2, 3}));
  compare_within("weight", weight, Values(4, 0.25), 1e-7);
}

/* A bias moves the choice and not the weights. */
TEST(bias_is_for_the_choice_alone) {
  Context ctx;
  RouterCase c({{1, 4, 2, 1, 1, 1, ORIBI_SIGMOID, 0, 2.0f, ORIBI_F32}, true}, ORIBI_F32);
  c.logits = {2, 1, 0, -1};
  c.bias = {-5, 0, 0, 3};
  Values weight;
  CHECK((c.choose(ctx, &weight) == Indices{3, 1}));
  compare_within("weight", weight, {2 / (1 + std::exp(1.0)), 2 / (1 + std::exp(-1.0))}, 1e-6);
}

/* Whatever the logits, the choice is one that the sort can take. */
TEST(not_a_number_is_chosen_last) {
  Context ctx;
  for (oribi_router_score score : {ORIBI_SOFTMAX, ORIBI_SIGMOID}) {
    RouterCase c({{3, 6, 2, 2, 1, 2, score, 1, 1.0f, ORIBI_F32}, false}, ORIBI_F32);
    c.logits[1] = c.logits[8] = NAN;
    for (int i = 12; i < 18; i++) c.logits[i] = NAN;
    Values weight;
    const Indices expert = c.choose(ctx, &weight);
    CHECK(valid(expert, c.s));
    CHECK(std::isnan(weight[4]) && std::isnan(weight[5]));
  }
  /* So is a group whose worth is none, the sum of both infinities; and where all are, the choice is still one. */
  RouterCase c({{1, 6, 2, 2, 1, 2, ORIBI_SIGMOID, 1, 1.0f, ORIBI_F32}, true}, ORIBI_F32);
  c.bias = {INFINITY, -INFINITY, -INFINITY, 0, 0, 0};
  Values weight;
  for (int32_t e : c.choose(ctx, &weight)) CHECK(e >= 3 && e < 6);
  for (int i = 0; i < 3; i++) c.bias[i + 3] = c.bias[i];
  CHECK(valid(c.choose(ctx, &weight), c.s));
}

TEST(router_reference_by_finite_differences) {
  for (const Routing& r : kRoutings) {
    if (r.shape.experts > 40) continue;
    RouterCase c(r, ORIBI_F32);
    Context ctx;
    Values weight;
    const Indices expert = c.choose(ctx, &weight);
    const Values dlogits = reference::router_backward<double>(c.dweight, c.logits, expert, c.s);
    compare_derivative("dlogits", c.logits, dlogits, [&](const Values& logits) {
      const Values w = reference::router_weights<double>(logits, expert, c.s);
      double sum = 0;
      for (size_t i = 0; i < w.size(); i++) sum += w[i] * c.dweight[i];
      return sum;
    });
  }
}

TEST(route) {
  for (int64_t n : {0, 1, 13, 113, 1023}) {
    for (int64_t k : {1, 2, 8}) {
      check_route(n, k, 8, 8);
      check_route(n, k, 128, 3);
      check_route(n, k, 1, 1);
    }
  }
  check_route(17, 32, 1024, 1000);
  check_route(4096, 8, 128, 128);
  if (!quick()) check_route(20000, 8, 256, 251);
}

TEST(unroute) {
  for (oribi_dtype t : kDtypes) {
    for (bool accumulate : {false, true}) {
      check_unroute(1, 1, 1, t, accumulate);
      check_unroute(13, 3, 13, t, accumulate);
      check_unroute(7, 32, 264, t, accumulate);
      check_unroute(29, 8, 2048, t, accumulate);
    }
  }
}

TEST(weighted_glu) {
  for (oribi_dtype t : kDtypes) {
    for (oribi_activation act : {ORIBI_SILU, ORIBI_GELU_TANH, ORIBI_GELU_ERF}) {
      check_weighted_glu(1, 1, act, t);
      check_weighted_glu(13, 13, act, t);
      check_weighted_glu(113, 768, act, t);
    }
    check_weighted_glu(5, 14336, ORIBI_SILU, t);
  }
}

TEST(weighted_glu_reference_by_finite_differences) {
  const int64_t n = 3, f = 4;
  Random random(5);
  const Values gu = random.normals(2 * n * f), df = random.normals(n * f), weight = random.normals(n);
  const Indices pair = {2, 0, 1};
  const auto identity = [](double x) { return x; };
  const auto loss = [&](const Values& in, const Values& w) {
    const Values out = reference::weighted_glu_forward<double>(in, w, pair, n, f, ORIBI_SILU, identity);
    double sum = 0;
    for (size_t i = 0; i < out.size(); i++) sum += out[i] * df[i];
    return sum;
  };
  Values dweight;
  const Values dgu = reference::weighted_glu_backward<double>(dweight, df, gu, weight, pair, n, f, ORIBI_SILU, identity);
  compare_derivative("dgu", gu, dgu, [&](const Values& in) { return loss(in, weight); });
  compare_derivative("dweight", weight, dweight, [&](const Values& w) { return loss(gu, w); });
}

TEST(same_bits_for_any_number_of_threads) {
  RouterCase c(kRoutings[8], ORIBI_BF16);
  const int64_t n = 200, f = 264;
  const Values gu = Random(3).normals(2 * n * f), df = Random(4).normals(n * f), w = Random(5).normals(n);
  Values first;
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    Values weight;
    const Indices expert = c.choose(ctx, &weight);
    Array logits(c.logits, c.s.t), dlogits(c.logits.size(), c.s.t), dweight(c.dweight, ORIBI_F32);
    Plain<int32_t> chosen(expert), pair(reference::sorted_pairs(random_experts(n, 1, 5, 5)));
    CHECK_OK(ctx, oribi_router_backward(ctx, dlogits.data(), chosen.data(), dweight.f32(), logits.data(), &c.s));
    Array in(gu, ORIBI_BF16), gradient(df, ORIBI_BF16), weights(w, ORIBI_F32), dgu(2 * n * f, ORIBI_BF16), dw(n, ORIBI_F32);
    CHECK_OK(ctx, oribi_weighted_glu_backward(ctx, dgu.data(), nullptr, dw.f32(), gradient.data(), in.data(), weights.f32(), pair.data(), n, f,
                                              ORIBI_SILU, ORIBI_BF16));
    Values all = weight;
    for (const Values& part : {dlogits.values(), dgu.values(), dw.values()}) all.insert(all.end(), part.begin(), part.end());
    if (threads == 1) first = all;
    CHECK(all == first);
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array a(64, ORIBI_F32, 1);
  Plain<int32_t> ids(64, 0);
  oribi_router_shape s = {2, 6, 2, 3, 2, 1, ORIBI_SOFTMAX, 1, 1, ORIBI_F32};
  const auto forward = [&] { return oribi_router_forward(ctx, ids.data(), a.f32(), a.data(), nullptr, &s); };
  s.groups = 4;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "experts must be a multiple of groups, found 6 and 4", forward());
  s.groups = 3, s.top_groups = 4;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "top_groups must be at most groups = 3, found 4", forward());
  s.top_groups = 1, s.k = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "k must be at most 32 and the experts of the chosen groups, 2 here, found 3", forward());
  s.k = 2, s.group_best = 3;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "group_best must be at most the 2 experts of a group, found 3", forward());
  s.group_best = 1, s.experts = 1026;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "experts must be at most 1024, found 1026", forward());
  s.experts = 6, s.score = static_cast<oribi_router_score>(7);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "score is 7", forward());
  s.score = ORIBI_SIGMOID;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "logits is NULL", oribi_router_forward(ctx, ids.data(), a.f32(), nullptr, nullptr, &s));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "shape is NULL", oribi_router_backward(ctx, a.data(), ids.data(), a.f32(), a.data(), nullptr));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_route: experts must be at least 1, found 0",
               oribi_route(ctx, ids.data(), ids.data(), ids.data(), ids.data(), ids.data(), a.data(), 2, 2, 0));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "row is NULL", oribi_unroute(ctx, a.data(), a.data(), nullptr, 2, 2, 3, 0, ORIBI_F32));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "act is 9",
               oribi_weighted_glu_forward(ctx, a.data(), a.data(), a.f32(), ids.data(), 2, 3, static_cast<oribi_activation>(9), ORIBI_F32));
  s.n = 0;
  CHECK_OK(ctx, oribi_router_forward(ctx, nullptr, nullptr, nullptr, nullptr, &s));
  CHECK_OK(ctx, oribi_router_backward(ctx, nullptr, nullptr, nullptr, nullptr, &s));
  CHECK_OK(ctx, oribi_unroute(ctx, nullptr, nullptr, nullptr, 0, 2, 3, 0, ORIBI_F32));
  CHECK_OK(ctx, oribi_weighted_glu_backward(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 0, 3, ORIBI_SILU, ORIBI_F32));
}

/* An index out of range: refused where the host can see it; on a card taken for 0, and told at the next synchronization. */
TEST(an_expert_that_there_is_not) {
  where = "expert out of range";
  Context ctx;
  Plain<int32_t> expert({0, 1, 5, 1}), offsets(4), pair(4), token(4), row(4);
  Plain<uint8_t> workspace(oribi_route_workspace(2, 2, 3));
  const oribi_status status =
      oribi_route(ctx, offsets.data(), pair.data(), token.data(), row.data(), expert.data(), workspace.data(), 2, 2, 3);
  if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
    CHECK(status == ORIBI_INVALID_ARGUMENT && std::string(oribi_ctx_message(ctx)).find("expert[2] is 5") != std::string::npos);
    return;
  }
  CHECK(status == ORIBI_OK);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_route", oribi_ctx_synchronize(ctx));
  CHECK(pair.values() == (Indices{0, 2, 1, 3}));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
}
