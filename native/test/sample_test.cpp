#include "sample_ref.h"

#include "check.h"

using namespace check;

namespace {

constexpr oribi_sample_options kPlain = {1, 0, 1, 0, 1, 5, 3};

std::vector<float> normal_logits(int64_t count, double std, uint64_t stream) {
  Random random(stream);
  std::vector<float> logits(count);
  for (float& x : logits) x = static_cast<float>(random.normal() * std);
  return logits;
}

/* Through the device's memory; a token whose row has no distribution is told at the latest by synchronize. */
std::vector<int32_t> sample(oribi_ctx* ctx, const std::vector<float>& logits, int64_t n, const std::vector<int32_t>& seen,
                            const oribi_sample_options& options) {
  const int64_t v = static_cast<int64_t>(logits.size()) / n;
  Plain<int32_t> token(n, -7), seen_there(seen);
  Plain<float> logits_there(logits);
  Plain<char> workspace(oribi_sample_workspace(n, v), 0x5a);
  CHECK_OK(ctx, oribi_sample(ctx, token.data(), logits_there.data(), seen_there.data(), workspace.data(), n, v,
                             static_cast<int64_t>(seen.size()), &options));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  return token.values();
}

/* One row by many streams, one after the other in the same memory; allocating for each, ten thousand times, took minutes on a card. */
std::vector<int32_t> sample_streams(oribi_ctx* ctx, const std::vector<float>& logits, const std::vector<int32_t>& seen,
                                    oribi_sample_options options, int64_t draws) {
  const int64_t v = static_cast<int64_t>(logits.size());
  Plain<int32_t> tokens(draws, -7), seen_there(seen);
  Plain<float> logits_there(logits);
  Plain<char> workspace(oribi_sample_workspace(1, v), 0x5a);
  int32_t* const token = tokens.data();
  for (int64_t i = 0; i < draws; i++, options.stream++) {
    CHECK_OK(ctx, oribi_sample(ctx, token + i, logits_there.data(), seen_there.data(), workspace.data(), 1, v,
                               static_cast<int64_t>(seen.size()), &options));
  }
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  return tokens.values();
}

/* How often each token comes, over many rows of the same logits or (with a penalty) many streams. */
std::vector<int64_t> histogram(const std::vector<float>& logits, const std::vector<int32_t>& seen,
                               const oribi_sample_options& options, int64_t draws) {
  Context ctx(2);
  std::vector<int64_t> counts(logits.size());
  std::vector<int32_t> tokens;
  if (options.repetition_penalty == 1) {
    std::vector<float> rows;
    for (int64_t i = 0; i < draws; i++) rows.insert(rows.end(), logits.begin(), logits.end());
    tokens = sample(ctx, rows, draws, seen, options);
  } else {
    tokens = sample_streams(ctx, logits, seen, options, draws);
  }
  for (int32_t token : tokens) counts.at(token)++;
  return counts;
}

/* Counts against the reference's probabilities: what it excludes never comes, what it allows comes in proportion.
   Six standard deviations: one false alarm in a thousand million. */
void check_distribution(const char* name, const std::vector<float>& logits, const std::vector<int32_t>& seen,
                        const oribi_sample_options& options, int64_t draws = 20000) {
  if (quick()) draws /= 5000; /* what must never come is left to see */
  where = std::string(name) + " v=" + std::to_string(logits.size());
  const std::vector<double> p =
      reference::sample_distribution(logits.data(), static_cast<int64_t>(logits.size()), seen, options);
  const std::vector<int64_t> counts = histogram(logits, seen, options, draws);
  for (size_t i = 0; i < p.size(); i++) {
    const double expected = p[i] * static_cast<double>(draws);
    CHECK(p[i] > 0 || counts[i] == 0);
    CHECK(std::fabs(static_cast<double>(counts[i]) - expected) <= 6 * std::sqrt(expected * (1 - p[i])) + 3);
  }
}

oribi_sample_options with(float temperature, int32_t top_k, float top_p, float min_p, float penalty) {
  return {temperature, top_k, top_p, min_p, penalty, 11, 4};
}

}  // namespace

TEST(distributions) {
  for (int64_t v : quick() ? std::vector<int64_t>{113} : std::vector<int64_t>{1, 13, 113}) {
    const std::vector<float> logits = normal_logits(v, 2, static_cast<uint64_t>(v));
    const int32_t last = static_cast<int32_t>(v - 1);
    check_distribution("plain", logits, {}, with(1, 0, 1, 0, 1));
    check_distribution("temperature", logits, {}, with(0.6f, 0, 1, 0, 1));
    check_distribution("top_k", logits, {}, with(1.5f, 5, 1, 0, 1));
    check_distribution("top_p", logits, {}, with(1.5f, 0, 0.7f, 0, 1));
    check_distribution("min_p", logits, {}, with(1.5f, 0, 1, 0.2f, 1));
    check_distribution("all", logits, {last, 0, last}, with(1.2f, 9, 0.9f, 0.05f, 1.7f), 5000);
    check_distribution("encouraged", logits, {last, last}, with(1.2f, 0, 1, 0, 0.6f), 5000);
  }
}

/* What is left is a matter of exact sets, not of chance: an even distribution makes each edge visible. */
TEST(edges) {
  const std::vector<float> equal(10, 0.25f);
  check_distribution("top_k keeps equals", equal, {}, with(1, 3, 1, 0, 1));
  check_distribution("top_p", equal, {}, with(1, 0, 0.35f, 0, 1));
  check_distribution("top_p of nothing keeps one", equal, {}, with(1, 0, 0, 0, 1));
  check_distribution("top_k of one", {0.5f, 2, 1}, {}, with(1, 1, 1, 0, 1));
  check_distribution("top_k beyond the vocabulary", {0.5f, 2, 1}, {}, with(1, 99, 1, 0, 1));
  check_distribution("min_p of one", {0.5f, 2, 1, 2}, {}, with(1, 0, 1, 1, 1));
  check_distribution("excluded by -infinity", {0.5f, -INFINITY, 1, -INFINITY}, {}, with(1, 0, 0.999f, 0, 1));
  check_distribution("very cold", {1e4f, 1e4f - 1, -1e4f}, {}, with(1e-6f, 0, 1, 0, 1));
  check_distribution("very far apart", {1e4f, 0, -1e4f}, {}, with(1, 0, 0.9f, 0, 1));
}

TEST(greedy) {
  where = "greedy";
  Context ctx;
  oribi_sample_options options = with(0, 1, 0.1f, 0.5f, 1);
  const std::vector<float> rows{1, 3, 3, 2, /**/ 5, -1, 5, 5, /**/ -4, -3, -INFINITY, -3};
  CHECK((sample(ctx, rows, 3, {}, options) == std::vector<int32_t>{1, 0, 1}));
  options.repetition_penalty = 2;
  CHECK((sample(ctx, {1, 3, 2}, 1, {1, 1, 1}, options) == std::vector<int32_t>{2}));
  CHECK((sample(ctx, {-1, -3, -2}, 1, {0, 0}, options) == std::vector<int32_t>{0}));
  CHECK((sample(ctx, {-1, -3, -1.5f}, 1, {0}, options) == std::vector<int32_t>{2}));
}

TEST(seeds) {
  where = "seeds";
  const int64_t rows = quick() ? 8 : 64;
  std::vector<float> logits = normal_logits(113 * rows, 1, 9);
  std::vector<int32_t> first;
  for (int32_t threads : {1, 2, 3}) {
    Context ctx(threads);
    const std::vector<int32_t> tokens = sample(ctx, logits, rows, {}, kPlain);
    if (threads == 1) first = tokens;
    CHECK(tokens == first);
  }
  Context ctx;
  oribi_sample_options other = kPlain;
  other.seed++;
  CHECK(sample(ctx, logits, rows, {}, other) != first);
  other = kPlain;
  other.stream++;
  CHECK(sample(ctx, logits, rows, {}, other) != first);
  logits.resize(113 * 5); /* a row draws by its index, not by how many rows there are */
  CHECK(sample(ctx, logits, 5, {}, kPlain) == std::vector<int32_t>(first.begin(), first.begin() + 5));
}

TEST(large_vocabulary) {
  where = "large";
  const int64_t v = quick() ? 2000 : 128256;
  const std::vector<float> logits = normal_logits(v, 3, 1);
  const oribi_sample_options options = with(0.8f, 50, 0.9f, 0, 1);
  const std::vector<double> p = reference::sample_distribution(logits.data(), v, {}, options);
  std::vector<float> rows;
  const int64_t n = quick() ? 2 : 20;
  for (int64_t i = 0; i < n; i++) rows.insert(rows.end(), logits.begin(), logits.end());
  Context ctx(2);
  for (int32_t token : sample(ctx, rows, n, {}, options)) CHECK(p.at(token) > 0);
}

#ifdef ORIBI_TEST_CUDA
/* Token for token what the CPU draws. */
TEST(same_tokens_as_the_cpu) {
  oribi_ctx* cpu = nullptr;
  CHECK(oribi_ctx_create(&cpu, ORIBI_CPU, 0, 0) == ORIBI_OK);
  Context ctx;
  const oribi_sample_options all[] = {with(1, 0, 1, 0, 1),    with(0.7f, 0, 1, 0, 1),      with(0.7f, 40, 1, 0, 1),
                                      with(1, 0, 0.9f, 0, 1), with(1.3f, 0, 1, 0.05f, 1), with(0.8f, 50, 0.95f, 0.01f, 1),
                                      with(0, 0, 1, 0, 1)};
  for (int64_t v : quick() ? std::vector<int64_t>{2000} : std::vector<int64_t>{113, 32000, 128256}) {
    const int64_t n = quick() ? 2 : v == 113 ? 500 : 20;
    std::vector<float> logits = normal_logits(n * v, 3, static_cast<uint64_t>(v));
    for (int64_t i = 0; i < n * v; i += 5) logits[i] = std::round(logits[i] * 4) / 4; /* equals */
    std::vector<char> workspace(oribi_sample_workspace(n, v));
    for (const oribi_sample_options& options : all) {
      where = "v=" + std::to_string(v) + " top_k=" + std::to_string(options.top_k) + " top_p=" + std::to_string(options.top_p);
      std::vector<int32_t> expected(n);
      CHECK_OK(cpu, oribi_sample(cpu, expected.data(), logits.data(), nullptr, workspace.data(), n, v, 0, &options));
      CHECK(sample(ctx, logits, n, {}, options) == expected);
    }
    for (int64_t i = 0; i < std::min<int64_t>(n, 5); i++) { /* one row at a time with a penalty */
      oribi_sample_options options = with(0.9f, 60, 0.9f, 0, 1.3f);
      options.stream = static_cast<uint64_t>(i);
      const std::vector<float> row(logits.begin() + i * v, logits.begin() + (i + 1) * v);
      const std::vector<int32_t> seen{0, static_cast<int32_t>(v - 1), 5, 5, 77};
      int32_t expected = -1;
      CHECK_OK(cpu, oribi_sample(cpu, &expected, row.data(), seen.data(), workspace.data(), 1, v, 5, &options));
      CHECK(sample(ctx, row, 1, seen, options)[0] == expected);
    }
  }
  oribi_ctx_destroy(cpu);
}
#endif

TEST(arguments) {
  where = "arguments";
  Context ctx;
  const auto call = [&](std::vector<float> logits, oribi_sample_options options, std::vector<int32_t> seen, int64_t n) {
    Plain<int32_t> token(2, -7), seen_there(seen);
    Plain<float> logits_there(logits);
    Plain<char> workspace(oribi_sample_workspace(2, 3));
    const oribi_status status = oribi_sample(ctx, token.data(), logits_there.data(), seen_there.data(), workspace.data(), n, 3,
                                             static_cast<int64_t>(seen.size()), &options);
    if (status != ORIBI_OK) return status;
    const oribi_status found = oribi_ctx_synchronize(ctx); /* where a card tells what it met */
    for (int64_t i = 0; i < n; i++) CHECK(token.get(i) >= 0 && token.get(i) < 3);
    return found;
  };
#ifdef ORIBI_TEST_CUDA
#define IN_ROW(row) "the logits of a row held a NaN"
#define NOT_FINITE "or nothing finite"
#define NOT_SEEN "a token of seen was outside"
#else
#define IN_ROW(row) "row " row " hold a NaN"
#define NOT_FINITE "nothing finite"
#define NOT_SEEN "seen[1] must be in [0, 3), found 3"
#endif
  const std::vector<float> fine{1, 2, 3, 1, 2, 3};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, IN_ROW("1"), call({1, 2, 3, 1, NAN, 3}, kPlain, {}, 2));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, IN_ROW("0"), call({1, INFINITY, 3}, with(0, 0, 1, 0, 1), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, NOT_FINITE, call({-INFINITY, -INFINITY, -INFINITY}, kPlain, {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, NOT_SEEN, call(fine, with(1, 0, 1, 0, 2), {0, 3}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "temperature must be 0 or more, found -1", call(fine, with(-1, 0, 1, 0, 1), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "top_p must be in [0, 1], found 1.5", call(fine, with(1, 0, 1.5f, 0, 1), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "top_k must be 0", call(fine, with(1, -1, 1, 0, 1), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "min_p must be", call(fine, with(1, 0, 1, NAN, 1), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "repetition_penalty must be above 0", call(fine, with(1, 0, 1, 0, 0), {}, 1));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "n must be 1 with a repetition_penalty, found 2", call(fine, with(1, 0, 1, 0, 2), {0}, 2));
}
