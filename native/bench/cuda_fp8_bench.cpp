/*
 * Rounding to e4m3 on a card, at the sizes of Llama 3.1 8B: activations and gradients by rows, weights by columns, beside the card's
 * own copy. Bytes are those that must move: 16 bits in, 8 out. The beginning of each result is compared with the reference first.
 */
#include <string>

#include "cuda_bench.h"
#include "fp8_ref.h"

namespace {

using cuda_bench::bytes;
using cuda_bench::Memory;
using cuda_bench::normals;

constexpr oribi_dtype kType = ORIBI_BF16;
constexpr int64_t kVerified = 3; /* rows that are compared */

/* Whether the first rows of q have the codes of x, which lies there by rows of q. */
bool holds(const Memory& codes, const std::vector<double>& x, int64_t cols) {
  const reference::Fp8 expected = reference::fp8_quantize(x, kVerified, cols);
  std::vector<uint8_t> found(expected.codes.size());
  cuda_bench::must(cudaMemcpy(found.data(), codes, found.size(), cudaMemcpyDeviceToHost), "download");
  return found == expected.codes;
}

void time_rows(cuda_bench::Bench& bench, int64_t n, int64_t c) {
  const Memory x = normals(n * c, kType), codes(static_cast<size_t>(n * c)), scale(static_cast<size_t>(n) * 4);
  const oribi_fp8 q = {codes.as<uint8_t>(), scale.as<float>()};
  bench.time("fp8_quantize rows", std::to_string(n) + "x" + std::to_string(c), kType, bytes(3.0 * static_cast<double>(n * c)),
             [&] { return oribi_fp8_quantize(bench.ctx(), &q, x, n, c, c, kType); },
             [&] { return holds(codes, cuda_bench::download(x, 0, kVerified * c, kType), c); });
}

void time_columns(cuda_bench::Bench& bench, int64_t rows, int64_t cols) {
  const Memory w = normals(rows * cols, kType, 0.02f), codes(static_cast<size_t>(rows * cols)), scale(static_cast<size_t>(cols) * 4);
  const oribi_fp8 q = {codes.as<uint8_t>(), scale.as<float>()};
  bench.time("fp8_quantize_transposed", std::to_string(rows) + "x" + std::to_string(cols), kType,
             bytes(3.0 * static_cast<double>(rows * cols)),
             [&] { return oribi_fp8_quantize_transposed(bench.ctx(), &q, w, rows, cols, cols, kType); }, [&] {
               const Memory first(static_cast<size_t>(rows * kVerified) * 2); /* columns, by rows */
               cuda_bench::must(cudaMemcpy2D(first, kVerified * 2, w, static_cast<size_t>(cols) * 2, kVerified * 2,
                                             static_cast<size_t>(rows), cudaMemcpyDeviceToDevice), "columns");
               const std::vector<double> columns = reference::transposed(cuda_bench::download(first, 0, rows * kVerified, kType), rows, kVerified);
               return holds(codes, columns, rows);
             });
}

}  // namespace

int main(int count, char** arguments) {
  cuda_bench::Bench bench(arguments, count);
  for (const int64_t n : {8192, 2048}) {
    for (const int64_t c : {4096, 6144, 14336, 28672}) time_rows(bench, n, c);
  }
  time_columns(bench, 6144, 4096);
  time_columns(bench, 4096, 4096);
  time_columns(bench, 28672, 4096);
  time_columns(bench, 4096, 14336);
}
