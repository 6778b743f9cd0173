/*
 * The fused LoRA product on a card: the shapes of Llama-3.1-8B with adapters of rank 16, forward and dx, with a 16-bit
 * weight and with one in NF4; forward also with h, which is all of the layer: by two calls, and by oribi_lora_forward. Beside each stands cuBLAS
 * on the same dense product without any adapter, timed by turns with ours, and for NF4 dequantization followed by either:
 * with cuBLAS, what a trainer without the fused kernel would run, less its adapters.
 * cuBLAS is opened at run time (libcublas.so, or the path in ORIBI_CUBLAS); without it only our own numbers appear.
 *
 *   cuda_lora_bench [--csv=PATH] [--only=WORD]
 */
#include <dlfcn.h>

#include "cuda_lora_layer.h"

namespace {

using cuda_bench::download;
using cuda_bench::Memory;
using cuda_lora::column_of;
using cuda_lora::dot;
using cuda_lora::verified;

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

/* What the large products read and write. `w` is what an NF4 weight stands for. */
struct Layer : cuda_lora::Layer {
  Memory w, y, dx, scratch, workspace;

  Layer(const oribi_ctx* ctx, const cuda_lora::Projection& p, int64_t n, oribi_dtype t)
      : cuda_lora::Layer(p, n, t, 1),
        w(cuda_bench::normals(p.in * p.out, t, 0.02f, 13)),
        y(static_cast<size_t>(2 * n * p.out)),
        dx(static_cast<size_t>(2 * n * p.in)),
        scratch(static_cast<size_t>(2 * n * std::max(p.in, p.out))),
        workspace(static_cast<size_t>(oribi_lora_workspace(ctx, &shape))) {}
  double flops() const { return 2.0 * static_cast<double>(shape.n * shape.in * shape.out); }
};

bool verified_y(const Layer& l) {
  const oribi_lora_shape& s = l.shape;
  return verified(l.y, s.n, s.out, s.t, [&](int64_t row, int64_t column) {
    const int64_t p = l.adapter_of(column);
    return dot(download(l.x, row * s.in, s.in, s.t), download(l.w, column * s.in, s.in, s.t)) +
           dot(download(l.h, (row * s.adapters + p) * s.rank, s.rank, s.t), download(l.b, column * s.rank, s.rank, s.t));
  });
}

bool verified_h(const Layer& l) {
  const oribi_lora_shape& s = l.shape;
  return verified(l.h, s.n, l.width, s.t, [&](int64_t row, int64_t r) {
    return s.scale[r / s.rank] * dot(download(l.x, row * s.in, s.in, s.t), download(l.a, r * s.in, s.in, s.t));
  });
}

bool verified_dx(const Layer& l) {
  const oribi_lora_shape& s = l.shape;
  return verified(l.dx, s.n, s.in, s.t, [&](int64_t row, int64_t column) {
    return dot(download(l.dy, row * s.out, s.out, s.t), column_of(l.w, s.out, s.in, column, s.t)) +
           dot(download(l.g, row * l.width, l.width, s.t), column_of(l.a, l.width, s.in, column, s.t));
  });
}

/* The ways of one direction, timed by turns. nf4 NULL: a 16-bit weight. */
void time(cuda_bench::Bench& bench, const Cublas& cublas, const Layer& l, const oribi_nf4* nf4, bool dx) {
  const oribi_lora_shape& s = l.shape;
  const std::string name = std::string(dx ? "lora_matmul_dx" : "lora_matmul") + (nf4 == nullptr ? "" : " nf4");
  const void* x = dx ? l.dy : l.x;
  const auto verify = [&l, dx] { return dx ? verified_dx(l) : verified_y(l); };
  const auto library = [&, x, dx] { cublas.multiply(l.scratch, x, l.w, s.n, s.in, s.out, dx, s.t); };
  const auto decode = [&, nf4, name] {
    bench.call(name, [&] { return oribi_nf4_dequantize(bench.ctx(), l.w, nf4, s.out, s.in, s.in, s.t); });
  };
  const auto fused = [&, x, dx, name](const void* w, const oribi_nf4* codes) {
    bench.call(name, [&] {
      return dx ? oribi_lora_matmul_dx(bench.ctx(), l.dx, x, w, codes, l.g, l.a, &s) : oribi_lora_matmul(bench.ctx(), l.y, x, w, codes, l.h, l.b, &s);
    });
  };
  const auto thin = [&] {
    bench.call("lora_h", [&] { return oribi_lora_h(bench.ctx(), l.h, l.x, l.a, l.workspace, &s); });
  };
  const auto whole = [&] {
    bench.call("lora_forward", [&] { return oribi_lora_forward(bench.ctx(), l.y, l.h, l.x, l.w, nullptr, l.a, l.b, l.workspace, &s); });
  };
  std::vector<cuda_bench::Bench::Way> ways;
  if (cublas.found()) ways.push_back({name + ": cuBLAS", library, nullptr});
  if (nf4 == nullptr) {
    ways.push_back({name, [&] { fused(l.w, nullptr); }, verify});
    if (!dx) ways.push_back({"lora_h, lora_matmul", [&] { thin(), fused(l.w, nullptr); }, verify});
    if (!dx) ways.push_back({"lora_forward", whole, [&] { return verified_h(l) && verify(); }});
  } else {
    if (cublas.found()) ways.push_back({name + ": decode + cuBLAS", [&] { decode(), library(); }, nullptr});
    ways.push_back({name + ": decode + ours", [&] { decode(), fused(l.w, nullptr); }, verify});
    ways.push_back({name, [&] { fused(nullptr, nf4); }, verify});
  }
  bench.time_in_turns(l.size, s.t, cuda_bench::flops(l.flops()), ways);
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
  for (const int64_t n : cuda_lora::kTokens) {
    for (const cuda_lora::Projection& p : cuda_lora::llama_8b()) {
      const Layer layer(bench.ctx(), p, n, ORIBI_BF16);
      for (const bool dx : {false, true}) time(bench, cublas, layer, nullptr, dx);
      time_nf4(bench, cublas, layer);
    }
  }
  return 0;
}
