/*
 * Math        p = softmax(logits) or sigmoid(logits);  choice = p + bias, among the experts of the top_groups groups with the
 *             largest sums of their group_best largest choices;  expert = the k largest choices;  q = p of the chosen
 *             weight = scale * q / (sum of q + 1e-20) where normalized, scale * q where not
 *             backward, S = sum of q + 1e-20:  dq_j = scale / S * (dweight_j - sum over l of dweight_l q_l / S), or scale * dweight_j
 *             softmax  dlogits_i = p_i * (dq_i - sum over l of dq_l q_l)      sigmoid  dlogits_i = dq_i * p_i (1 - p_i)
 *             with dq_i = 0 for an expert that was not chosen
 * Shapes      logits, dlogits (N,E)  expert, weight, dweight (N,k)  bias (E)
 * Layout      row-major, any E
 * Precision   logits fp32, bf16 or fp16; all else fp32, as in Hugging Face's Mixtral, Qwen3-MoE and DeepSeek
 * Saved       logits and expert; p is computed again
 * Writes      expert =, weight =, dlogits =
 * Determinism bit-exact: a warp has a token, its sums are taken in a fixed order; among equal choices the lower index wins
 * Limits      E <= 1024, k <= 32, groups <= 32; others are INVALID_ARGUMENT
 */
#include "common/experts.h"
#include "cuda/elementwise.cuh"

namespace oribi {
namespace {

/* Four tokens a block. A token's scores and choices lie in shared memory: 4 * 2 * E * 4 bytes, 8 KB for 256 experts. */
constexpr int kWarps = 4;
constexpr unsigned kAll = 0xffffffffu;

__device__ float warp_sum(float x) {
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(kAll, x, lane);
  return x;
}

/* A number and where it stands. */
struct Candidate {
  float value;
  int index;

  __device__ void consider(float v, int i) {
    if (v > value || (v == value && i < index)) {
      value = v;
      index = i;
    }
  }
};
__device__ Candidate nobody() { return {-INFINITY, INT32_MAX}; }

/* The best of all lanes, in all lanes. */
__device__ Candidate best_of_warp(Candidate own) {
  for (int lane = 16; lane > 0; lane /= 2) {
    const float value = __shfl_xor_sync(kAll, own.value, lane);
    own.consider(value, __shfl_xor_sync(kAll, own.index, lane));
  }
  return own;
}

/* p[E] of one token, each lane its own experts: lane, lane + 32 and so on. */
template <class T>
__device__ void scores(float* p, const T* logits, int experts, oribi_router_score score) {
  const int lane = threadIdx.x % 32;
  float most = -INFINITY, sum = 0;
  for (int i = lane; i < experts; i += 32) {
    p[i] = to_float(logits[i]);
    most = fmaxf(most, p[i]);
  }
  if (score == ORIBI_SIGMOID) {
    for (int i = lane; i < experts; i += 32) p[i] = 1.0f / (1.0f + expf(-p[i]));
    return;
  }
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, step));
  for (int i = lane; i < experts; i += 32) sum += p[i] = expf(p[i] - most);
  sum = warp_sum(sum);
  for (int i = lane; i < experts; i += 32) p[i] /= sum;
}

/* Bit g: group g is among the chosen. Lane g weighs group g. */
__device__ unsigned chosen_groups(const float* choice, const oribi_router_shape& s) {
  const int lane = threadIdx.x % 32, of_group = static_cast<int>(s.experts / s.groups);
  if (s.top_groups == s.groups) return kAll;
  float worth = 0;
  bool free = lane < s.groups;
  Candidate before{INFINITY, -1}; /* the ones after it in the order are left */
  for (int j = 0; free && j < s.group_best; j++) {
    Candidate best = nobody();
    for (int i = lane * of_group; i < (lane + 1) * of_group; i++) {
      const bool after = choice[i] < before.value || (choice[i] == before.value && i > before.index);
      if (after) best.consider(choice[i], i);
    }
    worth += best.value;
    before = best;
  }
  unsigned groups = 0;
  for (int j = 0; j < s.top_groups; j++) {
    Candidate own = nobody();
    if (free) own.consider(isnan(worth) ? -INFINITY : worth, lane); /* the sum of both infinities is no number, and would be nobody */
    const int group = best_of_warp(own).index;
    groups |= 1u << group;
    free = free && lane != group;
  }
  return groups;
}

template <class T>
__global__ void __launch_bounds__(kWarps * 32) forward_kernel(int32_t* expert, float* weight, const T* logits, const float* bias,
                                                              const oribi_router_shape s) {
  extern __shared__ float memory[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, experts = static_cast<int>(s.experts);
  const int of_group = static_cast<int>(s.experts / s.groups), k = static_cast<int>(s.k);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (token >= s.n) return;
  float *p = memory + warp * 2 * experts, *choice = p + experts;
  scores(p, logits + token * s.experts, experts, s.score);
  for (int i = lane; i < experts; i += 32) {
    const float c = bias != nullptr ? p[i] + bias[i] : p[i];
    choice[i] = isnan(c) ? -INFINITY : c;
  }
  __syncwarp();
  const unsigned groups = chosen_groups(choice, s);
  unsigned taken = 0; /* bit i: this lane's i-th expert */
  float own = 0, sum = kLeastWeightSum;
  int own_expert = 0;
  for (int j = 0; j < k; j++) {
    Candidate best = nobody();
    for (int i = lane, bit = 0; i < experts; i += 32, bit++) {
      const bool allowed = groups == kAll || (groups >> (i / of_group) & 1) != 0;
      if (allowed && (taken >> bit & 1) == 0) best.consider(choice[i], i);
    }
    const int index = best_of_warp(best).index;
    if (index % 32 == lane) taken |= 1u << (index / 32);
    const float q = p[index];
    sum += q;
    if (j == lane) {
      own = q;
      own_expert = index;
    }
  }
  if (lane >= k) return;
  expert[token * k + lane] = own_expert;
  weight[token * k + lane] = (s.normalize != 0 ? own / sum : own) * s.scale;
}

/* Lane j has the chosen expert j. */
template <class T>
__global__ void __launch_bounds__(kWarps * 32) backward_kernel(T* dlogits, const int32_t* expert, const float* dweight,
                                                               const T* logits, const oribi_router_shape s) {
  extern __shared__ float memory[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, experts = static_cast<int>(s.experts), k = static_cast<int>(s.k);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (token >= s.n) return;
  float *p = memory + warp * 2 * experts, *dp = p + experts;
  scores(p, logits + token * s.experts, experts, s.score);
  for (int i = lane; i < experts; i += 32) dp[i] = 0;
  __syncwarp();
  int chosen = lane < k ? expert[token * k + lane] : 0;
  const bool inside = lane < k && chosen >= 0 && chosen < experts; /* as the forward pass wrote it */
  chosen = inside ? chosen : 0;
  const float q = inside ? p[chosen] : 0.0f, dw = inside ? dweight[token * k + lane] : 0.0f;
  const float sum = s.normalize != 0 ? warp_sum(q) + kLeastWeightSum : 1.0f;
  const float mean = s.normalize != 0 ? warp_sum(dw * q) / sum : 0.0f;
  const float dq = inside ? s.scale / sum * (dw - mean) : 0.0f;
  const float through = warp_sum(dq * q);
  if (inside) dp[chosen] = dq;
  __syncwarp();
  T* out = dlogits + token * s.experts;
  for (int i = lane; i < experts; i += 32) {
    out[i] = from_float<T>(s.score == ORIBI_SIGMOID ? dp[i] * p[i] * (1.0f - p[i]) : p[i] * (dp[i] - through));
  }
}

/* launch(storage type, blocks, shared memory), and its status. */
template <class Launch>
oribi_status for_tokens(oribi_ctx* ctx, const char* function, const oribi_router_shape& s, Launch&& launch) {
  if (s.n == 0) return ORIBI_OK;
  const int64_t blocks = divide_up(s.n, kWarps);
  if (!fits_grid(blocks)) return too_large(ctx, function, blocks);
  const oribi_status status = select_device(ctx, function);
  if (status != ORIBI_OK) return status;
  dispatch_pack(s.t, 1, [&](auto type, auto) {
    launch(type, static_cast<unsigned>(blocks), static_cast<size_t>(kWarps * 2 * s.experts) * sizeof(float));
  });
  return launch_status(ctx, function);
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_router_forward(oribi_ctx* ctx, int32_t* expert, float* weight, const void* logits,
                                             const float* bias, const oribi_router_shape* shape) {
  const char* const function = "oribi_router_forward";
  Check check(ctx, function);
  if (!check_router(check, shape)) return check.status();
  const oribi_router_shape s = *shape;
  check.pointer("expert", expert, s.n).pointer("weight", weight, s.n).pointer("logits", logits, s.n);
  if (!check.ok()) return check.status();
  return for_tokens(ctx, function, s, [&](auto type, unsigned blocks, size_t bytes) {
    forward_kernel<<<blocks, kWarps * 32, bytes, stream_of(ctx)>>>(expert, weight, static_cast<const decltype(type)*>(logits), bias, s);
  });
}

extern "C" oribi_status oribi_router_backward(oribi_ctx* ctx, void* dlogits, const int32_t* expert, const float* dweight,
                                              const void* logits, const oribi_router_shape* shape) {
  const char* const function = "oribi_router_backward";
  Check check(ctx, function);
  if (!check_router(check, shape)) return check.status();
  const oribi_router_shape s = *shape;
  check.pointer("dlogits", dlogits, s.n).pointer("expert", expert, s.n).pointer("dweight", dweight, s.n);
  if (!check.pointer("logits", logits, s.n).ok()) return check.status();
  return for_tokens(ctx, function, s, [&](auto type, unsigned blocks, size_t bytes) {
    using T = decltype(type);
    backward_kernel<<<blocks, kWarps * 32, bytes, stream_of(ctx)>>>(static_cast<T*>(dlogits), expert, dweight,
                                                                    static_cast<const T*>(logits), s);
  });
}
