/*
 * What the benchmarks of the LoRA layer have in common: the projections of Llama-3.1-8B, the data of one of them, and
 * results checked against double precision. docs/derivations/lora.md has the names.
 */
#ifndef ORIBI_CUDA_LORA_LAYER_H
#define ORIBI_CUDA_LORA_LAYER_H

#include "cuda_bench.h"

namespace cuda_lora {

using cuda_bench::Memory;

constexpr int64_t kTokens[] = {8192, 2048, 512};

/* A stack of projections of one input. */
struct Projection {
  const char* name;
  int64_t in, out, rank;
  std::vector<int64_t> outs; /* of each adapter, side by side */
};
inline const std::vector<Projection>& llama_8b() {
  static const std::vector<Projection> all = {{"qkv", 4096, 6144, 16, {4096, 1024, 1024}},
                                              {"o", 4096, 4096, 16, {4096}},
                                              {"gate_up", 4096, 28672, 16, {14336, 14336}},
                                              {"down", 14336, 4096, 16, {4096}}};
  return all;
}

/* What every product of the layer reads. */
struct Layer {
  oribi_lora_shape shape{};
  std::string size;
  int64_t width; /* R: the ranks of all adapters */
  Memory x, dy, a, b, h, g;

  Layer(const Projection& p, int64_t n, oribi_dtype t, float scale)
      : width(p.rank * static_cast<int64_t>(p.outs.size())),
        x(cuda_bench::normals(n * p.in, t)),
        dy(cuda_bench::normals(n * p.out, t, 1, 8)),
        a(cuda_bench::normals(width * p.in, t, 0.02f, 9)),
        b(cuda_bench::normals(p.out * p.rank, t, 0.02f, 10)),
        h(cuda_bench::normals(n * width, t, 1, 11)),
        g(cuda_bench::normals(n * width, t, 1, 12)) {
    shape.n = n, shape.in = shape.ld_x = p.in, shape.out = shape.ld_y = p.out, shape.rank = p.rank, shape.t = t;
    shape.adapters = static_cast<int32_t>(p.outs.size());
    int64_t first = 0;
    for (size_t i = 0; i < p.outs.size(); i++) {
      shape.first_out[i] = first, shape.outs[i] = p.outs[i], shape.scale[i] = scale;
      first += p.outs[i];
    }
    size = std::string(p.name) + " " + std::to_string(n) + "x" + std::to_string(p.in) + "x" + std::to_string(p.out);
  }

  /* The adapter of a column of y. They lie side by side, so that b's rows are y's columns. */
  int64_t adapter_of(int64_t column) const {
    int64_t p = 0;
    while (column >= shape.first_out[p] + shape.outs[p]) p++;
    return p;
  }
};

/* Part of a column of a row-major matrix of 16-bit elements. */
inline std::vector<double> column_of(const void* matrix, int64_t rows, int64_t ld, int64_t column, oribi_dtype t) {
  const Memory packed(static_cast<size_t>(rows * 2));
  cuda_bench::must(cudaMemcpy2D(packed, 2, static_cast<const char*>(matrix) + column * 2, static_cast<size_t>(ld * 2), 2,
                                static_cast<size_t>(rows), cudaMemcpyDeviceToDevice),
                   "a column");
  return cuda_bench::download(packed, 0, rows, t);
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
  return sum;
}

/* Elements from all over a result [rows, columns] against expected_at(row, column) in double precision. A 16-bit result is
   off by half a unit of its last place, 0.2 % in bf16; an fp32 sum of 8192 terms by far less than a thousandth. */
template <class Expected>
bool verified(const void* result, int64_t rows, int64_t columns, oribi_dtype t, Expected&& expected_at) {
  constexpr int64_t kSamples = 24;
  std::vector<double> actual, expected;
  for (int64_t i = 0; i < kSamples; i++) {
    const int64_t row = i * (rows - 1) / (kSamples - 1), column = (i * 7919 + 13) % columns;
    actual.push_back(cuda_bench::download(result, row * columns + column, 1, t)[0]);
    expected.push_back(expected_at(row, column));
  }
  return cuda_bench::largest_error(actual, expected) < (t == ORIBI_F32 ? 1e-3 : 1e-2);
}

}  // namespace cuda_lora
#endif
