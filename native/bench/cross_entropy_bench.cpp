/* Cross-entropy over chunks of logits, in place, as the trainer calls it: 32 rows of SmolLM2's and Llama 3's vocabulary. */
#include <cmath>
#include <string>

#include "bench.h"
#include "cross_entropy_ref.h"

namespace {

constexpr int64_t kRows = 32;

void verify(oribi_ctx* ctx, const std::vector<float>& logits, const std::vector<int32_t>& labels, int64_t v) {
  const float scale = 0.5f;
  std::vector<float> gradient(logits.size()), loss(kRows);
  bench::must(ctx, oribi_cross_entropy(ctx, gradient.data(), loss.data(), logits.data(), labels.data(), &scale, kRows, v, 1, 0, ORIBI_F32));
  std::vector<double> x(logits.begin(), logits.end()), exact(logits.size()), exact_loss(kRows);
  reference::cross_entropy<double>(exact.data(), exact_loss.data(), x.data(), labels.data(), scale, kRows, v);
  for (int64_t i = 0; i < kRows; i++) bench::verified(std::fabs(loss[i] - exact_loss[i]) <= 1e-5, "a loss");
  for (size_t i = 0; i < exact.size(); i++) bench::verified(std::fabs(gradient[i] - exact[i]) <= 1e-6, "a gradient");
}

void time_vocabulary(int32_t threads, int64_t v) {
  oribi_ctx* ctx = bench::context(threads);
  std::vector<float> logits = bench::normals(kRows * v), loss(kRows);
  std::vector<int32_t> labels(kRows);
  for (int64_t i = 0; i < kRows; i++) labels[i] = static_cast<int32_t>(i * 997 % v);
  verify(ctx, logits, labels, v);
  const float scale = 0.5f;
  const bench::Times times = bench::measure([&] {
    bench::must(ctx, oribi_cross_entropy(ctx, logits.data(), loss.data(), logits.data(), labels.data(), &scale, kRows, v, 1, 0, ORIBI_F32));
  });
  const std::string name = std::to_string(kRows) + "x" + std::to_string(v) + " f32 in place";
  /* The least that must move: each logit in once and its gradient out once. */
  bench::report("cross_entropy", name.c_str(), threads, times, 8.0 * static_cast<double>(kRows * v), "GB/s");
  oribi_ctx_destroy(ctx);
}

}  // namespace

int main() {
  for (int32_t threads : {1, 2})
    for (int64_t v : {49152, 128256}) time_vocabulary(threads, v);
}
