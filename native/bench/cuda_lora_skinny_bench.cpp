/*
 * The skinny products of the LoRA layer on a card: h, g with dB, and dA, at the shapes of Llama-3.1-8B with adapters of rank
 * 16, and one of rank 64. The bytes are the fewest that must move: each operand once, each result once, dA and dB read and
 * written. Partial sums, and whatever is read twice, are the kernels' own affair.
 *
 *   cuda_lora_skinny_bench [--csv=PATH] [--only=WORD]
 */
#include "cuda_bench.h"

namespace {

using cuda_bench::Memory;

struct Projection {
  const char* name;
  int64_t in, out, rank;
  std::vector<int64_t> outs; /* of each adapter, side by side */
};
const Projection kProjections[] = {{"qkv", 4096, 6144, 16, {4096, 1024, 1024}},
                                   {"o", 4096, 4096, 16, {4096}},
                                   {"gate_up", 4096, 28672, 16, {14336, 14336}},
                                   {"down", 14336, 4096, 16, {4096}},
                                   {"o r64", 4096, 4096, 64, {4096}}};
constexpr int64_t kTokens[] = {8192, 2048, 512};

struct Layer {
  oribi_lora_shape shape{};
  std::string size;
  int64_t width;
  Memory x, dy, a, b, h_in, g_in, h, g, da, db;

  Layer(const Projection& p, int64_t n, oribi_dtype t)
      : width(p.rank * static_cast<int64_t>(p.outs.size())),
        x(cuda_bench::normals(n * p.in, t)),
        dy(cuda_bench::normals(n * p.out, t, 1, 8)),
        a(cuda_bench::normals(width * p.in, t, 0.02f, 9)),
        b(cuda_bench::normals(p.out * p.rank, t, 0.02f, 10)),
        h_in(cuda_bench::normals(n * width, t, 1, 11)),
        g_in(cuda_bench::normals(n * width, t, 1, 12)),
        h(static_cast<size_t>(2 * n * width)),
        g(static_cast<size_t>(2 * n * width)),
        da(cuda_bench::upload(std::vector<float>(static_cast<size_t>(width * p.in)), ORIBI_F32)),
        db(cuda_bench::upload(std::vector<float>(static_cast<size_t>(p.out * p.rank)), ORIBI_F32)) {
    shape.n = n, shape.in = shape.ld_x = p.in, shape.out = shape.ld_y = p.out, shape.rank = p.rank, shape.t = t;
    shape.adapters = static_cast<int32_t>(p.outs.size());
    int64_t first = 0;
    for (size_t i = 0; i < p.outs.size(); i++) {
      shape.first_out[i] = first, shape.outs[i] = p.outs[i], shape.scale[i] = 2;
      first += p.outs[i];
    }
    size = std::string(p.name) + " " + std::to_string(n) + "x" + std::to_string(p.in) + "x" + std::to_string(p.out);
  }
};

/* Part of a column of a row-major matrix of 16-bit elements. */
std::vector<double> column_of(const void* matrix, int64_t rows, int64_t ld, int64_t column, oribi_dtype t) {
  const Memory packed(static_cast<size_t>(rows * 2));
  cuda_bench::must(cudaMemcpy2D(packed, 2, static_cast<const char*>(matrix) + column * 2, static_cast<size_t>(ld * 2), 2,
                                static_cast<size_t>(rows), cudaMemcpyDeviceToDevice),
                   "a column");
  return cuda_bench::download(packed, 0, rows, t);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
  return sum;
}

/* Elements from all over a result against double precision. A 16-bit result is off by half a unit of its last place, 0.2 %
   in bf16; an fp32 sum of 8192 terms by far less than a thousandth. */
template <class Expected>
bool verified(const Memory& result, int64_t rows, int64_t columns, oribi_dtype t, Expected&& expected_at) {
  constexpr int64_t kSamples = 24;
  std::vector<double> actual, expected;
  for (int64_t i = 0; i < kSamples; i++) {
    const int64_t row = i * (rows - 1) / (kSamples - 1), column = (i * 7919 + 13) % columns;
    actual.push_back(cuda_bench::download(result, row * columns + column, 1, t)[0]);
    expected.push_back(expected_at(row, column));
  }
  return cuda_bench::largest_error(actual, expected) < (t == ORIBI_F32 ? 1e-3 : 1e-2);
}

void time(cuda_bench::Bench& bench, const Layer& l) {
  const oribi_lora_shape& s = l.shape;
  const auto number = [](int64_t x) { return static_cast<double>(x); };
  oribi_ctx* ctx = bench.ctx();
  const Memory workspace(static_cast<size_t>(oribi_lora_workspace(ctx, &s)));
  const auto adapter_of = [&s](int64_t column) { /* the adapters lie side by side, so that b's rows are y's columns */
    int64_t p = 0;
    while (column >= s.first_out[p] + s.outs[p]) p++;
    return p;
  };
  bench.time("lora_h", l.size, s.t, cuda_bench::bytes(2 * number(s.n * s.in + l.width * s.in + s.n * l.width)),
             [&] { return oribi_lora_h(ctx, l.h, l.x, l.a, workspace, &s); },
             [&] {
               return verified(l.h, s.n, l.width, s.t, [&](int64_t row, int64_t r) {
                 return s.scale[r / s.rank] * dot(cuda_bench::download(l.x, row * s.in, s.in, s.t), cuda_bench::download(l.a, r * s.in, s.in, s.t));
               });
             });
  bench.time("lora_g_db", l.size, s.t,
             cuda_bench::bytes(2 * number(s.n * s.out + s.out * s.rank + 2 * s.n * l.width) + 8 * number(s.out * s.rank)),
             [&] { return oribi_lora_g_db(ctx, l.g, l.db.as<float>(), l.dy, l.b, l.h_in, workspace, &s); },
             [&] {
               const bool g = verified(l.g, s.n, l.width, s.t, [&](int64_t row, int64_t r) {
                 const int64_t p = r / s.rank, first = s.first_out[p], outs = s.outs[p];
                 const auto* rows = l.b.as<const char>() + first * s.rank * 2;
                 return s.scale[p] * dot(cuda_bench::download(l.dy, row * s.out + first, outs, s.t), column_of(rows, outs, s.rank, r % s.rank, s.t));
               });
               return g && verified(l.db, s.out, s.rank, ORIBI_F32, [&](int64_t column, int64_t r) {
                        return dot(column_of(l.dy, s.n, s.out, column, s.t), column_of(l.h_in, s.n, l.width, adapter_of(column) * s.rank + r, s.t));
                      });
             });
  bench.time("lora_da", l.size, s.t, cuda_bench::bytes(2 * number(s.n * s.in + s.n * l.width) + 8 * number(l.width * s.in)),
             [&] { return oribi_lora_da(ctx, l.da.as<float>(), l.g_in, l.x, workspace, &s); },
             [&] {
               return verified(l.da, l.width, s.in, ORIBI_F32, [&](int64_t r, int64_t column) {
                 return dot(column_of(l.g_in, s.n, l.width, r, s.t), column_of(l.x, s.n, s.in, column, s.t));
               });
             });
}

}  // namespace

int main(int argc, char** argv) {
  cuda_bench::Bench bench(argv, argc);
  for (const int64_t n : kTokens) {
    for (const Projection& p : kProjections) time(bench, Layer(p, n, ORIBI_BF16));
  }
  return 0;
}
