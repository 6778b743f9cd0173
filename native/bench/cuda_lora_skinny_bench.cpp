/*
 * The skinny products of the LoRA layer on a card: h, g with dB, and dA, at the shapes of Llama-3.1-8B with adapters of rank
 * 16, and one of rank 64. The bytes are the fewest that must move: each operand once, each result once, dA and dB read and
 * written. Partial sums, and whatever is read twice, are the kernels' own affair.
 *
 *   cuda_lora_skinny_bench [--csv=PATH] [--only=WORD]
 */
#include "cuda_lora_layer.h"

namespace {

using cuda_bench::download;
using cuda_bench::Memory;
using cuda_lora::column_of;
using cuda_lora::dot;
using cuda_lora::Layer;
using cuda_lora::verified;

double number(int64_t x) { return static_cast<double>(x); }

void time_h(cuda_bench::Bench& bench, const Layer& l, const Memory& workspace) {
  const oribi_lora_shape& s = l.shape;
  const Memory h(static_cast<size_t>(2 * s.n * l.width));
  bench.time("lora_h", l.size, s.t, cuda_bench::bytes(2 * number(s.n * s.in + l.width * s.in + s.n * l.width)),
             [&] { return oribi_lora_h(bench.ctx(), h, l.x, l.a, workspace, &s); },
             [&] {
               return verified(h, s.n, l.width, s.t, [&](int64_t row, int64_t r) {
                 return s.scale[r / s.rank] * dot(download(l.x, row * s.in, s.in, s.t), download(l.a, r * s.in, s.in, s.t));
               });
             });
}

void time_g_db(cuda_bench::Bench& bench, const Layer& l, const Memory& workspace) {
  const oribi_lora_shape& s = l.shape;
  const Memory g(static_cast<size_t>(2 * s.n * l.width));
  const Memory db(cuda_bench::upload(std::vector<float>(static_cast<size_t>(s.out * s.rank)), ORIBI_F32));
  bench.time("lora_g_db", l.size, s.t,
             cuda_bench::bytes(2 * number(s.n * s.out + s.out * s.rank + 2 * s.n * l.width) + 8 * number(s.out * s.rank)),
             [&] { return oribi_lora_g_db(bench.ctx(), g, db.as<float>(), l.dy, l.b, l.h, workspace, &s); },
             [&] {
               const bool g_right = verified(g, s.n, l.width, s.t, [&](int64_t row, int64_t r) {
                 const int64_t p = r / s.rank, first = s.first_out[p], outs = s.outs[p];
                 const auto* rows = l.b.as<const char>() + first * s.rank * 2;
                 return s.scale[p] * dot(download(l.dy, row * s.out + first, outs, s.t), column_of(rows, outs, s.rank, r % s.rank, s.t));
               });
               return g_right && verified(db, s.out, s.rank, ORIBI_F32, [&](int64_t column, int64_t r) {
                        return dot(column_of(l.dy, s.n, s.out, column, s.t), column_of(l.h, s.n, l.width, l.adapter_of(column) * s.rank + r, s.t));
                      });
             });
}

void time_da(cuda_bench::Bench& bench, const Layer& l, const Memory& workspace) {
  const oribi_lora_shape& s = l.shape;
  const Memory da(cuda_bench::upload(std::vector<float>(static_cast<size_t>(l.width * s.in)), ORIBI_F32));
  bench.time("lora_da", l.size, s.t, cuda_bench::bytes(2 * number(s.n * s.in + s.n * l.width) + 8 * number(l.width * s.in)),
             [&] { return oribi_lora_da(bench.ctx(), da.as<float>(), l.g, l.x, workspace, &s); },
             [&] {
               return verified(da, l.width, s.in, ORIBI_F32, [&](int64_t r, int64_t column) {
                 return dot(column_of(l.g, s.n, l.width, r, s.t), column_of(l.x, s.n, s.in, column, s.t));
               });
             });
}

}  // namespace

int main(int argc, char** argv) {
  cuda_bench::Bench bench(argv, argc);
  std::vector<cuda_lora::Projection> projections = cuda_lora::llama_8b();
  projections.push_back({"o r64", 4096, 4096, 64, {4096}});
  for (const int64_t n : cuda_lora::kTokens) {
    for (const cuda_lora::Projection& p : projections) {
      const Layer layer(p, n, ORIBI_BF16, 2);
      const Memory workspace(static_cast<size_t>(oribi_lora_workspace(bench.ctx(), &layer.shape)));
      time_h(bench, layer, workspace);
      time_g_db(bench, layer, workspace);
      time_da(bench, layer, workspace);
    }
  }
  return 0;
}
