/* How the product of lora_matmul_sm90.cu is cut: the cuts there are, and which one a shape takes. */
#include <cstdlib>
#include <cstring>

#include "cuda/lora_h_sm90.cuh"
#include "cuda/lora_matmul_sm90_plan.cuh"

namespace oribi {
namespace {

/* `cost` is the time of a wave of tiles, in columns of the fastest cut's tiles; `fixed` is what every launch of the cut takes
   besides, in steps of the inner dimension of such a wave. Both are from docs/results/lora-matmul.md, measured on an H100. */
struct Cut {
  const char* name; /* in ORIBI_LORA_MATMUL */
  LoraTiling tiling;
  double cost;
  bool nf4;
  double fixed;
};
constexpr LoraSharing kHalves = LoraSharing::halves;
constexpr Cut kCuts[] = {
    {"256x2", {256, 2, 8, kHalves}, 256, false, 0},  {"224x2", {224, 2, 8, kHalves}, 230, false, 0},
    {"192x2", {192, 2, 8, kHalves}, 200, false, 0},  {"128x2", {128, 2, 8, kHalves}, 140, false, 0},
    {"256x1", {256, 1, 16, kHalves}, 270, false, 0}, {"192x1", {192, 1, 16, kHalves}, 215, false, 0},
    {"128x1", {128, 1, 16, kHalves}, 210, false, 0}, {"128/2", {128, 1, 8, LoraSharing::inner}, 94, false, 20},
    {"176x2t", {176, 2, 8, LoraSharing::turns}, 173, false, 0},
    {"256x1", {256, 1, 16, kHalves}, 256, true, 0},  {"128x1", {128, 1, 16, kHalves}, 185, true, 0}};

/* Whether there is a kernel of this cut for the product. */
bool fits(const Cut& cut, const oribi_lora_shape& shape, bool dx, bool nf4) {
  const int64_t steps = (dx ? shape.out : shape.in) / lora90::kDepth;
  if (cut.nf4 != nf4) return false;
  if (cut.tiling.columns % 64 != 0 && dx) return false; /* a weight that lies [inner, columns] is read 64 columns at a time */
  return cut.tiling.sharing != LoraSharing::inner || steps >= 2;
}

double cost_of(const Cut& cut, const oribi_ctx* ctx, const oribi_lora_shape& shape, bool dx) {
  const int64_t columns = dx ? shape.in : shape.out, rows = (shape.n + lora90::kRows - 1) / lora90::kRows;
  const int64_t steps = (dx ? shape.out : shape.in) / lora90::kDepth;
  const int64_t cluster = cut.tiling.cluster, width = cut.tiling.columns;
  const int64_t blocks = cluster * (cut.tiling.sharing == LoraSharing::inner ? 2 : 1);
  const int64_t tiles = (rows + cluster - 1) / cluster * ((columns + width - 1) / width);
  const int64_t at_once = static_cast<const CudaContext*>(ctx)->processors / blocks;
  const auto number = [](int64_t x) { return static_cast<double>(x); };
  return number((tiles + at_once - 1) / at_once) * cut.cost * (1 + cut.fixed / number(steps));
}

}  // namespace

bool lora_cut_named(const char* name) {
  for (const Cut& cut : kCuts) {
    if (std::strcmp(cut.name, name) == 0) return true;
  }
  return false;
}

namespace {

/* The cut with the least time, to which more(tiling) adds something, or the one that the environment variable ORIBI_LORA_MATMUL
   names, where there is such a kernel. */
template <class More>
LoraTiling best_cut(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool dx, bool nf4, More&& more) {
  const char* wanted = std::getenv("ORIBI_LORA_MATMUL");
  const Cut* best = nullptr;
  double least = 0;
  for (const Cut& cut : kCuts) {
    if (!fits(cut, shape, dx, nf4)) continue;
    if (wanted != nullptr && std::strcmp(cut.name, wanted) == 0) return cut.tiling;
    const double cost = cost_of(cut, ctx, shape, dx) + more(cut.tiling);
    if (best != nullptr && cost >= least) continue;
    best = &cut;
    least = cost;
  }
  return best->tiling;
}

}  // namespace

LoraTiling lora_tiling_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool dx, bool nf4) {
  return best_cut(ctx, shape, dx, nf4, [](const LoraTiling&) { return 0.0; });
}

LoraTiling lora_tiling_with_h_sm90(const oribi_ctx* ctx, const oribi_lora_shape& shape, bool nf4) {
  return best_cut(ctx, shape, false, nf4, [&](const LoraTiling& tiling) { return lora_beside_sm90(ctx, shape, tiling).cost; });
}

}  // namespace oribi
