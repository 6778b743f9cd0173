/*
 * The fused LoRA product on a card: the shapes of Llama-3.1-8B with adapters of rank 16, forward and dx, with a 16-bit
 * weight and with one in NF4. Beside each stands cuBLAS on the same dense product without any adapter, and for NF4
 * dequantization followed by cuBLAS: what a trainer without the fused kernel would run, less its adapters.
 * cuBLAS is opened at run time (libcublas.so, or the path in ORIBI_CUBLAS); without it only our own numbers appear.
 *
 *   cuda_lora_bench [--csv=PATH] [--only=WORD]
 */
#include <dlfcn.h>

#include "cuda_bench.h"

namespace {

using cuda_bench::Memory;

constexpr int64_t kRank = 16;
constexpr int64_t kTokens[] = {512, 2048, 8192};

struct Projection {
  const char* name;
  int64_t in, out;
  std::vector<int64_t> outs; /* of each adapter, side by side */
};
const Projection kProjections[] = {{"qkv", 4096, 6144, {4096, 1024, 1024}},
                                   {"o", 4096, 4096, {4096}},
                                   {"gate_up", 4096, 28672, {14336, 14336}},
                                   {"down", 14336, 4096, {4096}}};

/* The three functions of cuBLAS that are needed, declared by hand: neither its headers nor its library are at build time. */
class Cublas {
 public:
  explicit Cublas(cudaStream_t stream) {
    const char* given = std::getenv("ORIBI_CUBLAS");
    void* library = nullptr;
    for (const char* name : {given, "libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (name != nullptr && library == nullptr) library = dlopen(name, RTLD_NOW);
    }
    if (library == nullptr) {
      std::printf("no cuBLAS to compare with: %s\n", dlerror());
      return;
    }
    const auto create = reinterpret_cast<int (*)(void**)>(dlsym(library, "cublasCreate_v2"));
    const auto set_stream = reinterpret_cast<int (*)(void*, cudaStream_t)>(dlsym(library, "cublasSetStream_v2"));
    gemm_ = reinterpret_cast<Gemm>(dlsym(library, "cublasGemmEx"));
    if (create == nullptr || set_stream == nullptr || gemm_ == nullptr || create(&handle_) != 0 || set_stream(handle_, stream) != 0) {
      std::fprintf(stderr, "cuBLAS cannot be started\n");
      std::exit(1);
    }
  }
  bool found() const { return gemm_ != nullptr; }

  /* y[n,out] = x·Wᵀ, or dx[n,in] = dy·W; cuBLAS counts by columns, so that ours are its transposes. */
  void multiply(void* y, const void* x, const void* w, int64_t n, int64_t in, int64_t out, bool dx, oribi_dtype t) const {
    constexpr int kBf16 = 14, kF16 = 2, kSumF32 = 68, kDefault = -1;
    const int type = t == ORIBI_BF16 ? kBf16 : kF16;
    const int columns = static_cast<int>(dx ? in : out), inner = static_cast<int>(dx ? out : in);
    const float one = 1, zero = 0;
    const int status = gemm_(handle_, dx ? 0 : 1, 0, columns, static_cast<int>(n), inner, &one, w, type, static_cast<int>(in), x,
                             type, inner, &zero, y, type, columns, kSumF32, kDefault);
    if (status == 0) return;
    std::fprintf(stderr, "cublasGemmEx answers %d\n", status);
    std::exit(1);
  }

 private:
  using Gemm = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*,
                       void*, int, int, int, int);
  void* handle_ = nullptr;
  Gemm gemm_ = nullptr;
};

/* A stack of projections with everything that its products read and write. `w` is what an NF4 weight stands for. */
struct Layer {
  oribi_lora_shape shape{};
  std::string size;
  Memory x, dy, h, b, a, y, dx, w, scratch;

  Layer(const Projection& p, int64_t n, oribi_dtype t)
      : x(cuda_bench::normals(n * p.in, t)),
        dy(cuda_bench::normals(n * p.out, t, 1, 8)),
        h(cuda_bench::normals(n * kRank * static_cast<int64_t>(p.outs.size()), t, 1, 9)),
        b(cuda_bench::normals(p.out * kRank, t, 0.02f, 10)),
        a(cuda_bench::normals(p.in * kRank * static_cast<int64_t>(p.outs.size()), t, 0.02f, 11)),
        y(static_cast<size_t>(2 * n * p.out)),
        dx(static_cast<size_t>(2 * n * p.in)),
        w(cuda_bench::normals(p.in * p.out, t, 0.02f, 12)),
        scratch(static_cast<size_t>(2 * n * std::max(p.in, p.out))) {
    shape.n = n, shape.in = shape.ld_x = p.in, shape.out = shape.ld_y = p.out, shape.rank = kRank, shape.t = t;
    shape.adapters = static_cast<int32_t>(p.outs.size());
    int64_t first = 0;
    for (size_t i = 0; i < p.outs.size(); i++) {
      shape.first_out[i] = first, shape.outs[i] = p.outs[i], shape.scale[i] = 1;
      first += p.outs[i];
    }
    size = std::string(p.name) + " " + std::to_string(n) + "x" + std::to_string(p.in) + "x" + std::to_string(p.out);
  }
  double flops() const { return 2.0 * static_cast<double>(shape.n * shape.in * shape.out); }
};

/* A column of a row-major matrix of 16-bit elements. */
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

double expected_y(const Layer& l, int64_t row, int64_t column) {
  const oribi_lora_shape& s = l.shape;
  const double base = dot(cuda_bench::download(l.x, row * s.in, s.in, s.t), cuda_bench::download(l.w, column * s.in, s.in, s.t));
  int64_t p = 0; /* the adapters lie side by side, so that b's rows are y's columns */
  while (column >= s.first_out[p] + s.outs[p]) p++;
  return base + dot(cuda_bench::download(l.h, (row * s.adapters + p) * s.rank, s.rank, s.t),
                    cuda_bench::download(l.b, column * s.rank, s.rank, s.t));
}

double expected_dx(const Layer& l, int64_t row, int64_t column) {
  const oribi_lora_shape& s = l.shape;
  const int64_t ranks = s.adapters * s.rank;
  return dot(cuda_bench::download(l.dy, row * s.out, s.out, s.t), column_of(l.w, s.out, s.in, column, s.t)) +
         dot(cuda_bench::download(l.h, row * ranks, ranks, s.t), column_of(l.a, ranks, s.in, column, s.t));
}

/* Elements from all over the result against double precision; one is off by at most half a unit of its last place, and by
   what fp32 sums lose: together far less than a hundredth. */
bool verified(const Layer& l, bool dx) {
  constexpr int64_t kSamples = 24;
  const oribi_lora_shape& s = l.shape;
  const int64_t columns = dx ? s.in : s.out;
  std::vector<double> actual, expected;
  for (int64_t i = 0; i < kSamples; i++) {
    const int64_t row = i * (s.n - 1) / (kSamples - 1), column = (i * 7919 + 13) % columns;
    actual.push_back(cuda_bench::download(dx ? l.dx : l.y, row * columns + column, 1, s.t)[0]);
    expected.push_back(dx ? expected_dx(l, row, column) : expected_y(l, row, column));
  }
  return cuda_bench::largest_error(actual, expected) < 0.01;
}

/* Times one direction. nf4 NULL: a 16-bit weight. */
void time(cuda_bench::Bench& bench, const Cublas& cublas, const Layer& l, const oribi_nf4* nf4, bool dx) {
  const oribi_lora_shape& s = l.shape;
  const cuda_bench::Work work = cuda_bench::flops(l.flops());
  const std::string name = std::string(dx ? "lora_matmul_dx" : "lora_matmul") + (nf4 == nullptr ? "" : " nf4");
  const void* x = dx ? l.dy : l.x;
  bench.flop_ceiling(0);
  if (cublas.found()) {
    const double seconds = bench.time_other(name + ": cuBLAS", l.size, s.t, work, [&] {
      cublas.multiply(l.scratch, x, l.w, s.n, s.in, s.out, dx, s.t);
    });
    if (nf4 != nullptr) {
      bench.time_other(name + ": decode + cuBLAS", l.size, s.t, work, [&] {
        oribi_nf4_dequantize(bench.ctx(), l.w, nf4, s.out, s.in, s.in, s.t);
        cublas.multiply(l.scratch, x, l.w, s.n, s.in, s.out, dx, s.t);
      });
    }
    if (seconds > 0) bench.flop_ceiling(l.flops() / seconds);
  }
  const void* w = nf4 == nullptr ? static_cast<void*>(l.w) : nullptr;
  bench.time(name, l.size, s.t, work, [&] {
    return dx ? oribi_lora_matmul_dx(bench.ctx(), l.dx, x, w, nf4, l.h, l.a, &s) : oribi_lora_matmul(bench.ctx(), l.y, x, w, nf4, l.h, l.b, &s);
  }, [&] { return verified(l, dx); });
}

void must(cuda_bench::Bench& bench, oribi_status status) {
  if (status == ORIBI_OK) return;
  std::fprintf(stderr, "%s\n", oribi_ctx_message(bench.ctx()));
  std::exit(1);
}

/* The same with the weight in NF4. l.w becomes the decoded weight: what the reference and the library read. */
void time_nf4(cuda_bench::Bench& bench, const Cublas& cublas, const Layer& l) {
  const int64_t count = l.shape.in * l.shape.out, blocks = count / 64;
  const Memory codes(static_cast<size_t>(count / 2)), absmax(static_cast<size_t>(blocks)), absmax2(static_cast<size_t>((blocks + 255) / 256 * 4)),
      offset(4), workspace(static_cast<size_t>(oribi_nf4_workspace(count)));
  const oribi_nf4 nf4{codes.as<uint8_t>(), absmax.as<uint8_t>(), absmax2.as<float>(), offset.as<float>()};
  must(bench, oribi_nf4_quantize(bench.ctx(), &nf4, l.w, workspace, count, l.shape.t));
  must(bench, oribi_nf4_dequantize(bench.ctx(), l.w, &nf4, l.shape.out, l.shape.in, l.shape.in, l.shape.t));
  for (const bool dx : {false, true}) time(bench, cublas, l, &nf4, dx);
}

}  // namespace

int main(int argc, char** argv) {
  cuda_bench::Bench bench(argv, argc);
  const Cublas cublas(bench.stream());
  for (const int64_t n : kTokens) {
    for (const Projection& p : kProjections) {
      const Layer layer(p, n, ORIBI_BF16);
      for (const bool dx : {false, true}) time(bench, cublas, layer, nullptr, dx);
      time_nf4(bench, cublas, layer);
    }
  }
  return 0;
}
