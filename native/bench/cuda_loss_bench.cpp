/* NF4, cross-entropy, the optimizers and sampling on a card, at the sizes of Llama 3.1 8B's training step. */
#include <string>

#include "cross_entropy_ref.h"
#include "cuda_bench.h"
#include "nf4_ref.h"
#include "optimizer_ref.h"

using namespace cuda_bench;

namespace {

std::string shape_of(int64_t rows, int64_t cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

/* gate_proj of Llama 3.1 8B. */
void time_nf4(Bench& bench, oribi_dtype t) {
  if (!bench.wanted("nf4_quantize") && !bench.wanted("nf4_dequantize")) return;
  constexpr int64_t kRows = 14336, kCols = 4096, kCount = kRows * kCols, kChecked = 1 << 18;
  const Memory w = normals(kCount, t, 0.02f), back(kCount * size_of(t)), workspace(oribi_nf4_workspace(kCount));
  const Memory codes(kCount / 2), absmax(kCount / 64), absmax2(kCount / 64 / 256 * 4), offset(4);
  const oribi_nf4 q{codes.as<uint8_t>(), absmax.as<uint8_t>(), absmax2.as<float>(), offset.as<float>()};
  reference::Nf4 expected;
  const std::vector<double> first = download(w, 0, kChecked, t);
  reference::nf4_codes(expected, first);
  const double quantized = kCount * (0.5 + 1.0 / 64 + 4.0 / 64 / 256), plain = kCount * static_cast<double>(size_of(t));
  float mean = 0;
  bench.time("nf4_quantize", shape_of(kRows, kCols), t, bytes(plain + quantized),
             [&] { return oribi_nf4_quantize(bench.ctx(), &q, w, workspace, kCount, t); },
             [&] {
               std::vector<uint8_t> found(kChecked / 2), found_absmax(kChecked / 64);
               must(cudaMemcpy(found.data(), codes, found.size(), cudaMemcpyDeviceToHost), "codes");
               must(cudaMemcpy(found_absmax.data(), absmax, found_absmax.size(), cudaMemcpyDeviceToHost), "absmax");
               must(cudaMemcpy(&mean, offset, sizeof mean, cudaMemcpyDeviceToHost), "offset");
               reference::nf4_absmax(expected, oribi_dynamic_map_signed(), mean);
               return found == expected.codes && found_absmax == expected.absmax;
             });
  bench.time("nf4_dequantize", shape_of(kRows, kCols), t, bytes(plain + quantized),
             [&] { return oribi_nf4_dequantize(bench.ctx(), back, &q, kRows, kCols, kCols, t); },
             [&] {
               const std::vector<double> found = download(back, 0, kChecked, t);
               double largest = 0;
               for (int64_t i = 0; i < kChecked; i++) largest = std::fmax(largest, std::fabs(found[i] - first[i]));
               return largest < 0.02; /* the gaps of the code are at most 0.3 of an absmax of some 0.06 */
             });
  bench.time("nf4_dequantize, stride", shape_of(kRows, kCols / 2), t, bytes((plain + quantized) / 2),
             [&] { return oribi_nf4_dequantize(bench.ctx(), back, &q, kRows, kCols / 2, kCols, t); }, [] { return true; });
}

/* The label's logit, the largest and the first ones of each checked row against the reference. */
void time_cross_entropy(Bench& bench, int64_t n, int64_t v, oribi_dtype t, float softcap) {
  if (!bench.wanted("cross_entropy")) return;
  const Memory logits = normals(n * v, t, 2), dlogits(n * v * size_of(t)), loss(n * 4);
  std::vector<int32_t> labels(n);
  for (int64_t i = 0; i < n; i++) labels[i] = static_cast<int32_t>(i * 997 % v);
  const Memory labels_there = upload(labels), scale = upload(std::vector<float>{0.5f});
  const auto call = [&](void* dx, const void* x) {
    return oribi_cross_entropy(bench.ctx(), dx, loss.as<float>(), x, labels_there.as<int32_t>(), scale.as<float>(), n, v, 1, softcap, t);
  };
  const auto verify = [&](bool with_gradient) {
    constexpr int64_t kRows = 2;
    const std::vector<double> x = download(logits, 0, kRows * v, t), found = download(loss, 0, kRows, ORIBI_F32);
    std::vector<double> exact(kRows * v), exact_loss(kRows);
    reference::cross_entropy<double>(exact.data(), exact_loss.data(), x.data(), labels.data(), 0.5, kRows, v, 1.0, softcap);
    if (largest_error(found, exact_loss) > 1e-6) return false;
    return !with_gradient || largest_error(download(dlogits, 0, kRows * v, t), exact) < (t == ORIBI_F32 ? 1e-6 : 2e-3);
  };
  const double size = static_cast<double>(n * v) * size_of(t);
  const std::string name = softcap != 0 ? "cross_entropy softcap" : "cross_entropy";
  bench.time(name + " forward", shape_of(n, v), t, bytes(size), [&] { return call(nullptr, logits); }, [&] { return verify(false); });
  bench.time(name, shape_of(n, v), t, bytes(2 * size), [&] { return call(dlogits, logits); }, [&] { return verify(true); });
  bench.time(name + " in place", shape_of(n, v), t, bytes(2 * size), [&] { return call(dlogits, dlogits); }, [] { return true; });
}

/* LoRA of rank 16 on every projection of Llama 3.1 8B has 42 M parameters. */
void time_optimizers(Bench& bench) {
  constexpr int64_t kCount = 41943040;
  if (!bench.wanted("adamw") && !bench.wanted("adamw8") && !bench.wanted("sum_squares")) return;
  const Memory p = normals(kCount, ORIBI_F32, 0.02f), g = normals(kCount, ORIBI_F32, 1e-3f), m(kCount * 4), v(kCount * 4), p16(kCount * 2);
  const Memory m_max(kCount / 256 * 4), v_max(kCount / 256 * 4), scale = upload(std::vector<float>{0.5f});
  const Memory hyper = upload(std::vector<oribi_adamw_hyper>{{1e-4, 0.9, 0.999, 1e-8, 0.01, 1}});
  const Memory workspace(oribi_sum_workspace(kCount)), sum(8);
  must(cudaMemset(m, 0, m.size()), "m");
  must(cudaMemset(v, 0, v.size()), "v");
  must(cudaMemset(m_max, 0, m_max.size()), "m_max");
  must(cudaMemset(v_max, 0, v_max.size()), "v_max");
  constexpr int64_t kChecked = 4096;
  std::vector<double> before = download(p, 0, kChecked, ORIBI_F32);
  const std::vector<double> gradient = download(g, 0, kChecked, ORIBI_F32);
  const auto verify = [&] { /* moments begin at 0 either way, so the first step is that of the reference */
    std::vector<double> exact(kChecked);
    for (int64_t i = 0; i < kChecked; i++) {
      double x = before[i], a = 0, b = 0;
      reference::adamw(x, a, b, gradient[i] * 0.5, {1e-4, 0.9, 0.999, 1e-8, 0.01, 1});
      exact[i] = x;
    }
    return largest_error(download(p, 0, kChecked, ORIBI_F32), exact) < 1e-7;
  };
  bench.time("adamw", std::to_string(kCount), ORIBI_BF16, bytes(30.0 * kCount),
             [&] {
               return oribi_adamw(bench.ctx(), p.as<float>(), p16, m.as<float>(), v.as<float>(), g.as<float>(), scale.as<float>(),
                                  hyper.as<oribi_adamw_hyper>(), kCount, ORIBI_BF16);
             },
             verify);
  before = download(p, 0, kChecked, ORIBI_F32);
  must(cudaMemset(m, 127, kCount), "m8");
  must(cudaMemset(v, 0, kCount), "v8");
  bench.time("adamw8", std::to_string(kCount), ORIBI_BF16, bytes((18.0 + 16.0 / 256) * kCount),
             [&] {
               return oribi_adamw8(bench.ctx(), p.as<float>(), p16, m.as<uint8_t>(), v.as<uint8_t>(), m_max.as<float>(),
                                   v_max.as<float>(), g.as<float>(), scale.as<float>(), hyper.as<oribi_adamw_hyper>(), kCount, ORIBI_BF16);
             },
             verify);
  bench.time("sum_squares", std::to_string(kCount), ORIBI_F32, bytes(4.0 * kCount),
             [&] { return oribi_sum_squares(bench.ctx(), sum.as<double>(), g.as<float>(), workspace, kCount, 0); },
             [&] {
               double found = 0, expected = 0;
               must(cudaMemcpy(&found, sum, sizeof found, cudaMemcpyDeviceToHost), "sum");
               for (double x : download(g, 0, kCount, ORIBI_F32)) expected += x * x;
               return std::fabs(found - expected) <= 1e-10 * expected;
             });
}

/* One new token of Llama 3.1: the bytes are those of its logits, read once. */
void time_sample(Bench& bench) {
  if (!bench.wanted("sample")) return;
  constexpr int64_t kVocabulary = 128256;
  const Memory logits = normals(kVocabulary, ORIBI_F32, 3), token(4), workspace(oribi_sample_workspace(1, kVocabulary));
  const struct {
    const char* name;
    oribi_sample_options options;
  } cases[] = {{"sample greedy", {0, 0, 1, 0, 1, 1, 2}},
               {"sample temperature", {0.8f, 0, 1, 0, 1, 1, 2}},
               {"sample top_p", {0.8f, 0, 0.9f, 0, 1, 1, 2}},
               {"sample top_k top_p", {0.8f, 50, 0.9f, 0, 1, 1, 2}}};
  for (const auto& c : cases) {
    bench.time(c.name, shape_of(1, kVocabulary), ORIBI_F32, bytes(4.0 * kVocabulary),
               [&] {
                 return oribi_sample(bench.ctx(), token.as<int32_t>(), logits.as<float>(), nullptr, workspace, 1, kVocabulary, 0, &c.options);
               },
               [&] {
                 int32_t found = -1;
                 must(cudaMemcpy(&found, token, sizeof found, cudaMemcpyDeviceToHost), "token");
                 return found >= 0 && found < kVocabulary;
               });
  }
}

}  // namespace

int main(int count, char** arguments) {
  Bench bench(arguments, count);
  for (oribi_dtype t : {ORIBI_BF16, ORIBI_F32}) time_nf4(bench, t);
  time_cross_entropy(bench, 2048, 128256, ORIBI_BF16, 0);
  time_cross_entropy(bench, 2048, 49152, ORIBI_BF16, 0);
  time_cross_entropy(bench, 512, 262144, ORIBI_BF16, 0);
  time_cross_entropy(bench, 512, 256000, ORIBI_BF16, 30);
  time_cross_entropy(bench, 1024, 128256, ORIBI_F32, 0);
  time_optimizers(bench);
  time_sample(bench);
}
