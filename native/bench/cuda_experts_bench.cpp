/*
 * Routed experts on a card, at the sizes of Qwen3-30B-A3B: 4096 tokens of 2048, each to 8 of 128 experts of 768, with a LoRA
 * adapter of rank 16 on every expert. Experts are chosen by the router from random logits, so that they have unequal rows.
 */
#include <string>

#include "cuda_bench.h"

using namespace cuda_bench;

namespace {

constexpr int64_t kTokens = 4096, kHidden = 2048, kIntermediate = 768, kExperts = 128, kChosen = 8, kRank = 16;
constexpr int64_t kRows = kTokens * kChosen;
constexpr oribi_dtype t = ORIBI_BF16;

/* The router's choices of random logits, sorted. */
struct Routed {
  Memory logits = normals(kTokens * kExperts, t), dlogits{kTokens * kExperts * 2};
  Memory expert{kRows * 4}, weight{kRows * 4}, dweight = normals(kRows, ORIBI_F32);
  Memory offsets{(kExperts + 1) * 4}, pair{kRows * 4}, token{kRows * 4}, row{kRows * 4};
  Memory workspace{static_cast<size_t>(oribi_route_workspace(kTokens, kChosen, kExperts))};
  std::vector<int32_t> h_offsets, h_token;
};

std::vector<int32_t> download_ids(const Memory& ids) {
  std::vector<int32_t> values(ids.size() / 4);
  must(cudaDeviceSynchronize(), "ids");
  must(cudaMemcpy(values.data(), ids, ids.size(), cudaMemcpyDeviceToHost), "ids");
  return values;
}

void time_routing(Bench& bench, Routed& r) {
  oribi_router_shape s = {kTokens, kExperts, kChosen, 1, 1, 1, ORIBI_SOFTMAX, 1, 1, t};
  const std::string shape = "4096 tokens, 8 of 128";
  const auto forward = [&] { return oribi_router_forward(bench.ctx(), r.expert.as<int32_t>(), r.weight.as<float>(), r.logits, nullptr, &s); };
  const auto route = [&] {
    return oribi_route(bench.ctx(), r.offsets.as<int32_t>(), r.pair.as<int32_t>(), r.token.as<int32_t>(), r.row.as<int32_t>(),
                       r.expert.as<int32_t>(), r.workspace, kTokens, kChosen, kExperts);
  };
  bench.call("router", forward);
  bench.call("route", route);
  r.h_offsets = download_ids(r.offsets);
  r.h_token = download_ids(r.token);
  int32_t most = 0, least = INT32_MAX;
  for (int64_t e = 0; e < kExperts; e++) {
    most = std::max(most, r.h_offsets[e + 1] - r.h_offsets[e]);
    least = std::min(least, r.h_offsets[e + 1] - r.h_offsets[e]);
  }
  std::printf("experts have %d to %d rows\n", least, most);
  const double logits = kTokens * kExperts * 2.0, chosen = kRows * 8.0;
  bench.time("router_forward", shape, t, bytes(logits + chosen), forward, [] { return true; });
  bench.time("router_backward", shape, t, bytes(2 * logits + chosen),
             [&] { return oribi_router_backward(bench.ctx(), r.dlogits, r.expert.as<int32_t>(), r.dweight.as<float>(), r.logits, &s); },
             [] { return true; });
  bench.time("route", shape, t, bytes(kRows * 20.0), route, [&] { return download_ids(r.offsets) == r.h_offsets && r.h_offsets[kExperts] == kRows; });
}

/* One element of a product against its sum in double. */
bool near(const void* found, int64_t at, oribi_dtype type, double expected) {
  return std::fabs(download(found, at, 1, type)[0] - expected) <= 0.02 * (1 + std::fabs(expected));
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
  return sum;
}

struct Product {
  std::string name;
  int64_t in, out;
  bool gathers_x, gathers_y;
};

/* The three products of one stack of matrices. */
void time_products(Bench& bench, const Routed& r, const Product& p) {
  const int64_t most = p.gathers_x || p.gathers_y ? std::max(kTokens, kRows) : kRows;
  const Memory x = normals(most * p.in, t), dy = normals(most * p.out, t, 1, 8), w = normals(kExperts * p.in * p.out, t, 0.02f);
  const Memory y(kRows * p.out * 2), dx(kRows * p.in * 2), dw(kExperts * p.in * p.out * 4);
  must(cudaMemset(dw, 0, dw.size()), "dw");
  oribi_grouped_shape s = {kRows, kExperts, p.in, p.out, p.in, p.out, p.in, p.in * p.out, r.offsets.as<int32_t>(), nullptr, nullptr, 1, 0, t};
  const Work work = flops(2.0 * kRows * p.in * p.out);
  const std::string shape = std::to_string(kRows) + "x" + std::to_string(p.in) + "->" + std::to_string(p.out);
  const int64_t row = r.h_offsets[5] + 1; /* of expert 5 */
  const auto with = [&](bool x_rows, bool y_rows, int32_t accumulate) {
    s.x_row = x_rows ? r.token.as<int32_t>() : nullptr;
    s.y_row = y_rows ? r.token.as<int32_t>() : nullptr;
    s.accumulate = accumulate;
  };
  const auto at = [&](bool gathered) { return gathered ? r.h_token[row] : row; };
  with(p.gathers_x, false, 0);
  bench.time(p.name, shape, t, work, [&] { return oribi_grouped_matmul(bench.ctx(), y, x, w, &s); },
             [&] { return near(y, row * p.out + 3, t, dot(download(x, at(p.gathers_x) * p.in, p.in, t), download(w, (5 * p.out + 3) * p.in, p.in, t))); });
  with(p.gathers_x, false, 1);
  bench.time(p.name + " added", shape, t, work, [&] { return oribi_grouped_matmul(bench.ctx(), y, x, w, &s); }, [] { return true; });
  with(false, p.gathers_y, 0);
  bench.time(p.name + " dx", shape, t, work, [&] { return oribi_grouped_matmul_dx(bench.ctx(), dx, dy, w, &s); },
             [&] {
               std::vector<double> column(p.out);
               const std::vector<double> of_expert = download(w, 5 * p.out * p.in, p.out * p.in, t);
               for (int64_t o = 0; o < p.out; o++) column[o] = of_expert[o * p.in + 3];
               return near(dx, row * p.in + 3, t, dot(download(dy, at(p.gathers_y) * p.out, p.out, t), column));
             });
  with(p.gathers_x, p.gathers_y, 1);
  bench.time(p.name + " dw", shape, t, work, [&] { return oribi_grouped_matmul_dw(bench.ctx(), dw.as<float>(), dy, x, &s); },
             [&] {
               double sum = 0; /* after one call */
               for (int64_t i = r.h_offsets[5]; i < r.h_offsets[6]; i++) {
                 const int64_t x_at = p.gathers_x ? r.h_token[i] : i, y_at = p.gathers_y ? r.h_token[i] : i;
                 sum += download(dy, y_at * p.out + 1, 1, t)[0] * download(x, x_at * p.in + 2, 1, t)[0];
               }
               return near(dw, 5 * p.in * p.out + p.in + 2, ORIBI_F32, sum);
             });
}

void time_rows(Bench& bench, const Routed& r) {
  const Memory gu = normals(kRows * 2 * kIntermediate, t), df = normals(kRows * kIntermediate, t), f(kRows * kIntermediate * 2);
  const Memory dgu(gu.size()), x = normals(kRows * kHidden, t), y(kTokens * kHidden * 2);
  const double f_bytes = kRows * kIntermediate * 2.0;
  const std::string shape = std::to_string(kRows) + "x" + std::to_string(kIntermediate);
  bench.time("weighted_glu_forward", shape, t, bytes(3 * f_bytes),
             [&] {
               return oribi_weighted_glu_forward(bench.ctx(), f, gu, r.weight.as<float>(), r.pair.as<int32_t>(), kRows, kIntermediate, ORIBI_SILU, t);
             },
             [] { return true; });
  bench.time("weighted_glu_backward", shape, t, bytes(6 * f_bytes),
             [&] {
               return oribi_weighted_glu_backward(bench.ctx(), dgu, f, r.dweight.as<float>(), df, gu, r.weight.as<float>(), r.pair.as<int32_t>(),
                                                  kRows, kIntermediate, ORIBI_SILU, t);
             },
             [] { return true; });
  bench.time("unroute", "4096x8x2048", t, bytes((kRows + kTokens) * kHidden * 2.0),
             [&] { return oribi_unroute(bench.ctx(), y, x, r.row.as<int32_t>(), kTokens, kChosen, kHidden, 0, t); }, [] { return true; });
}

}  // namespace

int main(int count, char** arguments) {
  Bench bench(arguments, count);
  Routed routed;
  time_routing(bench, routed);
  time_rows(bench, routed);
  for (const Product& p : {Product{"gate_up", kHidden, 2 * kIntermediate, true, false}, Product{"down", kIntermediate, kHidden, false, true},
                           Product{"gate_up lora_A", kHidden, 2 * kRank, true, false}, Product{"gate_up lora_B", kRank, kIntermediate, false, false},
                           Product{"down lora_A", kIntermediate, kRank, false, false}, Product{"down lora_B", kRank, kHidden, false, true}}) {
    time_products(bench, routed, p);
  }
  return 0;
}
