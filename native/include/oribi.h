/*
 * Oribi's kernels: the one border between the kernels and everything that calls them.
 *
 * Plain C. Every function takes a context, plain pointers into memory that the caller owns, 64-bit sizes and scalars,
 * in the order: context, outputs, saved, inputs, workspace, sizes, scalars. Nothing here allocates, prints, exits or
 * throws; a function returns a status and leaves a sentence in the context (oribi_ctx_message).
 *
 * Two libraries implement this header, liboribi_cpu and liboribi_cuda. A program links one of them, or liboribi, which
 * forwards each call to the library of the context's device.
 *
 * Legend: B batch, T tokens, N = B*T rows, C channels, H query heads, Hkv key/value heads, D head size, F feed-forward
 * size, V vocabulary, R LoRA rank. Arrays are row-major; x[N,C] has C contiguous. Pointers are aligned to 64 bytes
 * unless a row stride (ld, in elements) is given. `dx` is the gradient of `x`.
 * A comment "=" means overwritten, "+=" means added to.
 */
#ifndef ORIBI_H
#define ORIBI_H

#include <stdint.h>

#if defined(_WIN32)
#define ORIBI_API __declspec(dllexport)
#else
#define ORIBI_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ status, context */

typedef enum oribi_status {
  ORIBI_OK = 0,
  ORIBI_INVALID_ARGUMENT = 1, /* a size, pointer, dtype or scalar that no call may have */
  ORIBI_UNSUPPORTED = 2,      /* valid, but this library or device has no kernel for it */
  ORIBI_NO_DEVICE = 3,        /* no such device, no driver, or the library of that device is not installed */
  ORIBI_OUT_OF_MEMORY = 4,
  ORIBI_DEVICE_ERROR = 5      /* the device reported a fault */
} oribi_status;

/* Storage types. Arithmetic is fp32 inside every kernel, whatever the storage. */
typedef enum oribi_dtype { ORIBI_F32 = 0, ORIBI_BF16 = 1, ORIBI_F16 = 2 } oribi_dtype;

typedef enum oribi_device { ORIBI_CPU = 0, ORIBI_CUDA = 1 } oribi_device;

typedef enum oribi_activation {
  ORIBI_SILU = 0,      /* x * sigmoid(x): SwiGLU */
  ORIBI_GELU_TANH = 1, /* tanh approximation: GeGLU of Gemma */
  ORIBI_GELU_ERF = 2   /* exact */
} oribi_activation;

/* How the weight of a norm is applied. */
typedef enum oribi_norm_weight {
  ORIBI_NORM_WEIGHT = 0,         /* round(x * rstd) * w: the rounding to t before the product is that of Hugging Face's Llama */
  ORIBI_NORM_ONE_PLUS_WEIGHT = 1 /* x * rstd * (1 + w), rounded once: Gemma */
} oribi_norm_weight;

/* A device, its stream and its threads. One context is used by one thread at a time. */
typedef struct oribi_ctx oribi_ctx;

/* Makes a context. threads: CPU threads, 0 for all the cores there are. index: which card; 0 on the CPU. */
ORIBI_API oribi_status oribi_ctx_create(oribi_ctx** ctx, oribi_device device, int32_t index, int32_t threads);
ORIBI_API void oribi_ctx_destroy(oribi_ctx* ctx);
/* What went wrong in the last call that failed, one sentence: operation, sizes, expected, found. Never NULL. */
ORIBI_API const char* oribi_ctx_message(const oribi_ctx* ctx);
/* Why the last oribi_ctx_create of this thread failed. Never NULL. */
ORIBI_API const char* oribi_create_message(void);
/* The instruction set or card in use: "avx512", "avx2", "baseline", or the card's name. */
ORIBI_API const char* oribi_ctx_device_name(const oribi_ctx* ctx);
ORIBI_API int32_t oribi_ctx_threads(const oribi_ctx* ctx);
/* Waits until everything issued through this context is done. On a GPU also tells what no kernel could return: an index
   that was out of range (INVALID_ARGUMENT), a fault of the device (DEVICE_ERROR). */
ORIBI_API oribi_status oribi_ctx_synchronize(oribi_ctx* ctx);
/* on: from here on a CPU's threads look for the next call for a while (200 us) before they sleep, and share its work in microseconds:
   for calls that follow each other quickly, as in decoding. 0, as at first: they sleep at once and leave the cores to others. The
   first time makes the threads. Changes no result; nothing on a GPU. */
ORIBI_API oribi_status oribi_ctx_keep_awake(oribi_ctx* ctx, int32_t on);
/* The stream that every call of this context goes to, as a cudaStream_t, for libraries that must keep in order with these
   kernels; it lives as long as the context. NULL on the CPU. */
ORIBI_API void* oribi_ctx_stream(const oribi_ctx* ctx);
/* Compute capability times ten, such as 90; 0 on the CPU. */
ORIBI_API int32_t oribi_ctx_architecture(const oribi_ctx* ctx);
/* "major.minor.patch" */
ORIBI_API const char* oribi_version(void);

/* --------------------------------------------------------------------------------------------------- plain memory */

/* y[count] = x[count], converted; round to nearest even. */
ORIBI_API oribi_status oribi_cast(oribi_ctx* ctx, void* y, const void* x, int64_t count, oribi_dtype ty, oribi_dtype tx);

/* y[rows,cols] = (accumulate ? y : 0) + x[rows,cols], converted, with row strides; the sum in fp32, rounded once. */
ORIBI_API oribi_status oribi_cast_rows(oribi_ctx* ctx, void* y, const void* x, int64_t rows, int64_t cols, int64_t ldy,
                                       int64_t ldx, oribi_dtype ty, oribi_dtype tx, int32_t accumulate);

/* y[count] = a[count] + b[count]; y may be a or b. */
ORIBI_API oribi_status oribi_add(oribi_ctx* ctx, void* y, const void* a, const void* b, int64_t count, oribi_dtype t);

/* y[count] = x * scale, then softcap * tanh(that / softcap) unless softcap is 0; rounded once; y may be x. */
ORIBI_API oribi_status oribi_scale(oribi_ctx* ctx, void* y, const void* x, int64_t count, float scale, float softcap,
                                   oribi_dtype t);

/* y[rows,cols] += b[cols], with ld elements from one row of y to the next. */
ORIBI_API oribi_status oribi_bias_add(oribi_ctx* ctx, void* y, const void* b, int64_t rows, int64_t cols, int64_t ld,
                                      oribi_dtype t);
/* db[cols] += sum over rows of dy[rows,cols], fp32. workspace: oribi_bias_backward_workspace bytes. */
ORIBI_API oribi_status oribi_bias_backward(oribi_ctx* ctx, float* db, const void* dy, void* workspace, int64_t rows,
                                           int64_t cols, int64_t ld, oribi_dtype t);
ORIBI_API int64_t oribi_bias_backward_workspace(int64_t rows, int64_t cols);

/* y[count] = value */
ORIBI_API oribi_status oribi_fill(oribi_ctx* ctx, void* y, int64_t count, float value, oribi_dtype t);

/* y[i,:] = x[index[i],:] for i < n; index in [0, rows). */
ORIBI_API oribi_status oribi_gather_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                         int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t);

/* y[index[i],:] = x[i,:] for i < n; index in [0, rows), no index twice; other rows of y stay as they are. */
ORIBI_API oribi_status oribi_scatter_rows(oribi_ctx* ctx, void* y, const void* x, const int32_t* index, int64_t n,
                                          int64_t rows, int64_t c, int64_t ldy, int64_t ldx, oribi_dtype t);

/* Counter-based random numbers (Philox 4x32-10; Salmon et al., SC 2011): element i depends on seed, stream and i alone. */
ORIBI_API oribi_status oribi_random_uniform(oribi_ctx* ctx, void* y, int64_t count, float low, float high, uint64_t seed,
                                            uint64_t stream, oribi_dtype t);
ORIBI_API oribi_status oribi_random_normal(oribi_ctx* ctx, void* y, int64_t count, float mean, float std, uint64_t seed,
                                           uint64_t stream, oribi_dtype t);

/* y[count] = (accumulate ? y : 0) + x * mask / (1 - p). mask of element i: Philox(seed, stream, i) >= p. No mask is
   stored: the backward pass calls this again with the same seed and stream. 0 <= p < 1. y may be x. */
ORIBI_API oribi_status oribi_dropout(oribi_ctx* ctx, void* y, const void* x, int64_t count, float p, uint64_t seed,
                                     uint64_t stream, int32_t accumulate, oribi_dtype t);

/* -------------------------------------------------------------------------------------------------------- embedding */

/* y[N,C] = table[ids[N],:], table[V,C]. An id outside [0, V) is INVALID_ARGUMENT; a GPU writes zeros for it and tells at
   oribi_ctx_synchronize, here and wherever an index is said to have a range. */
ORIBI_API oribi_status oribi_embedding_forward(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                               int64_t c, int64_t v, oribi_dtype t);
/* dtable[V,C] += rows of dy[N,C], fp32, in the order of the tokens: bit-exact. */
ORIBI_API oribi_status oribi_embedding_backward(oribi_ctx* ctx, float* dtable, const void* dy, const int32_t* ids,
                                                int64_t n, int64_t c, int64_t v, oribi_dtype t);

/* --------------------------------------------------------------------------------------------------------- rms_norm */

/* y[N,C] = round(x * rstd) * w[C], or x * rstd * (1 + w[C]), as `weight` says; rstd[N] = 1/sqrt(mean(x^2) + eps) in fp32,
   saved. */
ORIBI_API oribi_status oribi_rms_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                              int64_t n, int64_t c, float eps, oribi_norm_weight weight, oribi_dtype t);
/* r[N,C] = x + delta, rounded to t; then y, rstd = rms_norm(r). r may be x. */
ORIBI_API oribi_status oribi_add_rms_norm_forward(oribi_ctx* ctx, void* r, void* y, float* rstd, const void* x,
                                                  const void* delta, const void* w, int64_t n, int64_t c, float eps,
                                                  oribi_norm_weight weight, oribi_dtype t);
/* dx[N,C] = (accumulate ? dx : 0) + rstd * (g - xhat * mean(g * xhat)), g = dy*w or dy*(1+w), xhat = x*rstd.
   dw[C] += sum over rows of dy * xhat, unless dw is NULL. workspace: oribi_rms_norm_backward_workspace bytes, or NULL
   when dw is NULL. dx may be dy when accumulate is 0. */
ORIBI_API oribi_status oribi_rms_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                               const void* x, const void* w, void* workspace, int64_t n, int64_t c,
                                               int32_t accumulate, oribi_norm_weight weight, oribi_dtype t);
ORIBI_API int64_t oribi_rms_norm_backward_workspace(int64_t n, int64_t c);

/* rms_norm of each head: x[N,H,D] with ld_x elements from one row to the next, w[D], rstd[N,H]. The query and key norm of
   Qwen3 (H heads of q, then a second call for k) and Gemma 3. y may be x. */
typedef struct oribi_head_norm_shape {
  int64_t n, h, d, ld_x, ld_y; /* backward: ld_x of x, ld_y of dy, and of dx unless ld_dx says otherwise */
  float eps;
  oribi_dtype t;
  oribi_norm_weight weight;
  int64_t ld_dx; /* 0: ld_y */
} oribi_head_norm_shape;
ORIBI_API oribi_status oribi_head_norm_forward(oribi_ctx* ctx, void* y, float* rstd, const void* x, const void* w,
                                               const oribi_head_norm_shape* shape);
/* dx =, dw[D] += unless NULL; dx may be dy where their strides are one. workspace: oribi_head_norm_backward_workspace bytes, or NULL with dw NULL. */
ORIBI_API oribi_status oribi_head_norm_backward(oribi_ctx* ctx, void* dx, float* dw, const float* rstd, const void* dy,
                                                const void* x, const void* w, void* workspace,
                                                const oribi_head_norm_shape* shape);
ORIBI_API int64_t oribi_head_norm_backward_workspace(int64_t n, int64_t h, int64_t d);

/* ------------------------------------------------------------------------------------------------------------- rope */

/* Rotates q[N,H,D] and k[N,Hkv,D] in place, half-split: of the first R channels of each head, R = rotated, or D where that
   is 0, (x_i, x_{i+R/2}) by the angle of positions[row] and i < R/2; the other channels stay. cos, sin [max_position, R/2]
   fp32. ld_q, ld_k: elements from one row to the next. inverse: rotates back, which is the backward pass. A position outside
   [0, max_position) is INVALID_ARGUMENT. */
typedef struct oribi_rope_shape {
  int64_t n, h, h_kv, d, ld_q, ld_k, max_position;
  oribi_dtype t;
  int32_t inverse;
  int64_t rotated; /* even, at most d; 0: d */
} oribi_rope_shape;
ORIBI_API oribi_status oribi_rope(oribi_ctx* ctx, void* q, void* k, const float* cos, const float* sin,
                                  const int32_t* positions, const oribi_rope_shape* shape);

/* -------------------------------------------------------------------------------------------------------------- glu */

/* f[N,F] = act(gate) * up, from gu[N,2F] = gate | up side by side in each row. act(gate) is rounded to t before the
   product, as Hugging Face's Llama does. */
ORIBI_API oribi_status oribi_glu_forward(oribi_ctx* ctx, void* f, const void* gu, int64_t n, int64_t f_size,
                                         oribi_activation act, oribi_dtype t);
/* dgu[N,2F] = gradients of gate | up from df[N,F] and gu; dgu may be gu. f[N,F] = the forward pass's f once more, to the
   bit, unless f is NULL; f may be df. */
ORIBI_API oribi_status oribi_glu_backward(oribi_ctx* ctx, void* dgu, void* f, const void* df, const void* gu, int64_t n,
                                          int64_t f_size, oribi_activation act, oribi_dtype t);

/* -------------------------------------------------------------------------------------------------------- attention */

/* Causal attention over packed sequences, grouped heads, softmax in fp32; T x T is never built.
   Rows cu_seqlens[s] .. cu_seqlens[s+1] are the queries of sequence s. Keys and values of sequence s are rows
   kv_start[s] .. kv_start[s] + kv_len[s]; both NULL: the same rows as its queries. The last query of a sequence sees
   all its keys, the one before all but the last, and so on, so that a cache can be longer than the queries.
   Query head h reads key head h / (H / Hkv). D is a multiple of 2, at most 256. */
typedef struct oribi_attention_shape {
  int64_t n;         /* query rows in all */
  int64_t sequences; /* S */
  int64_t h, h_kv, d;
  int64_t ld_q, ld_k, ld_v, ld_o; /* elements from one row to the next; dq, dk, dv, do have those of q, k, v, o */
  const int32_t* cu_seqlens;      /* [S+1], begins with 0, ends with n */
  const int32_t* kv_start;        /* [S] or NULL */
  const int32_t* kv_len;          /* [S] or NULL */
  float scale;                    /* of q.k, usually 1/sqrt(D) */
  oribi_dtype t;
  int64_t max_seqlen; /* no sequence has more queries; 0: not known */
  int64_t window;     /* a query sees its last `window` keys, itself among them; 0: all */
  float softcap;      /* scores become softcap * tanh(score / softcap), after the scale; 0: as they are */
} oribi_attention_shape;

/* o[N,H,D]; lse[N,H] fp32 = log of the sum of exp of the scaled scores, saved (NULL: not wanted). */
ORIBI_API oribi_status oribi_attention_forward(oribi_ctx* ctx, void* o, float* lse, const void* q, const void* k,
                                               const void* v, void* workspace, const oribi_attention_shape* shape);
/* dq, dk, dv =. For kv_start NULL only. `do` has the shape of o. Bit-exact, whatever the number of threads. */
ORIBI_API oribi_status oribi_attention_backward(oribi_ctx* ctx, void* dq, void* dk, void* dv, const void* o,
                                                const float* lse, const void* d_o, const void* q, const void* k,
                                                const void* v, void* workspace, const oribi_attention_shape* shape);
/* Bytes of workspace for at most this shape (pointers are not read); backward: 1 for the backward pass. */
ORIBI_API int64_t oribi_attention_workspace(const oribi_ctx* ctx, const oribi_attention_shape* shape, int32_t backward);
/* Packed sequences as libraries describe them that count in elements: offsets[j * pitch + i] = cu_seqlens[min(i, sequences)]
   * strides[j] for j < arrays and i <= slots; lengths[i] = cu_seqlens[i+1] - cu_seqlens[i], 0 from `sequences` on. strides
   lies in the host's memory; at most 8 arrays; sequences <= slots < pitch. */
ORIBI_API oribi_status oribi_packed_offsets(oribi_ctx* ctx, int64_t* offsets, int32_t* lengths, const int32_t* cu_seqlens,
                                            const int64_t* strides, int64_t arrays, int64_t pitch, int64_t slots,
                                            int64_t sequences);

/* ------------------------------------------------------------------------------------------------- latent attention */

/* The heads of multi-head latent attention (DeepSeek V2): a head of q and k is D = nope + rope channels, of which the last
   `rope` are rotated and, in k, the same for every head; a head of v has v <= D channels, and zeros up to D, so that q, k and
   v have the shape that attention takes. Pairs that are rotated together: (2i, 2i+1) where interleaved, else
   (i, i + rope/2). A pair stays where it is: scores do not change with the order of channels. */
typedef struct oribi_latent_shape {
  int64_t n, h, nope, rope, v;   /* rope is even, at most 256 */
  int64_t ld_q, ld_k, ld_v;      /* of q[N,H,D], k[N,H,D], v[N,H,D] and their gradients: elements from one row to the next */
  int64_t ld_kv, ld_r;           /* of kv[N,H,nope+v] and k_rope[N,rope] and their gradients */
  int64_t max_position;
  int32_t interleaved;
  oribi_dtype t;
} oribi_latent_shape;
/* k, v =, from kv and k_rope; q is rotated in place, unless it is NULL. cos, sin [max_position, rope/2] fp32. A position
   outside [0, max_position) is INVALID_ARGUMENT. */
ORIBI_API oribi_status oribi_latent_forward(oribi_ctx* ctx, void* q, void* k, void* v, const void* kv, const void* k_rope,
                                            const float* cos, const float* sin, const int32_t* positions,
                                            const oribi_latent_shape* shape);
/* dkv, dk_rope =, the latter the sum over heads, in their order in fp32, rotated back; dq is rotated back in place. The
   gradient of v's padding is not looked at. */
ORIBI_API oribi_status oribi_latent_backward(oribi_ctx* ctx, void* dq, void* dkv, void* dk_rope, const void* dk,
                                             const void* dv, const float* cos, const float* sin, const int32_t* positions,
                                             const oribi_latent_shape* shape);

/* ---------------------------------------------------------------------------------------------------- cross_entropy */

/* Softmax cross-entropy of rows of logits[N,V] of type t. With z = logits * logit_scale, then softcap * tanh(z / softcap)
   unless softcap is 0: loss[N] = lse(z) - z of the label, fp32; 0 where label < 0.
   dlogits[N,V] = (softmax - onehot) * grad_scale[0], times the derivative of z, of type t; 0 where label < 0; NULL: not
   wanted; may be logits. grad_scale: one fp32 in the device's memory (1 / target tokens of the optimizer step, times the
   loss scale of fp16). Rows stride V; V is at most 262144 on a GPU. logit_scale is 1 where a model has none.
   A label >= V is INVALID_ARGUMENT. The vocabulary projection around it is done in chunks of rows by the caller. */
ORIBI_API oribi_status oribi_cross_entropy(oribi_ctx* ctx, void* dlogits, float* loss, const void* logits,
                                           const int32_t* labels, const float* grad_scale, int64_t n, int64_t v,
                                           float logit_scale, float softcap, oribi_dtype t);

/* -------------------------------------------------------------------------------------------------------- optimizer */

typedef struct oribi_adamw_hyper {
  double learning_rate, beta1, beta2, epsilon, weight_decay; /* 1 - beta2 in fp32 would be off by 1e-5 */
  int64_t step; /* from 1 */
} oribi_adamw_hyper;
/* One AdamW update (Loshchilov and Hutter 2019, PyTorch's order) of p, m, v [count] fp32 with the gradient
   g * grad_scale[0]. p16: if not NULL, p rounded to t16 as well. grad_scale NULL: 1. hyper lies in the device's memory, so
   that a captured step can be replayed with other numbers. */
ORIBI_API oribi_status oribi_adamw(oribi_ctx* ctx, float* p, void* p16, float* m, float* v, const float* g,
                                   const float* grad_scale, const oribi_adamw_hyper* hyper, int64_t count,
                                   oribi_dtype t16);
/* The same with moments in 8 bits, block by block of 256 elements, as bitsandbytes' AdamW8bit: m8[count] indexes
   oribi_dynamic_map_signed, v8[count] oribi_dynamic_map_unsigned, m_max[ceil(count/256)] and v_max the blocks' largest
   magnitudes. Moments begin as codes of zero (m8 127, v8 0) and maxima 0. */
ORIBI_API oribi_status oribi_adamw8(oribi_ctx* ctx, float* p, void* p16, uint8_t* m8, uint8_t* v8, float* m_max,
                                    float* v_max, const float* g, const float* grad_scale,
                                    const oribi_adamw_hyper* hyper, int64_t count, oribi_dtype t16);
/* The 256 values, ascending, of bitsandbytes' dynamic 8-bit data type; they live as long as the library. */
ORIBI_API const float* oribi_dynamic_map_signed(void);
ORIBI_API const float* oribi_dynamic_map_unsigned(void);
/* out[0] = (accumulate ? out[0] : 0) + sum of x^2, in fp64, in a fixed order. workspace: oribi_sum_workspace bytes. */
ORIBI_API oribi_status oribi_sum_squares(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                         int32_t accumulate);
/* out[0] = (accumulate ? out[0] : 0) + sum of x, in fp64, in a fixed order. */
ORIBI_API oribi_status oribi_sum(oribi_ctx* ctx, double* out, const float* x, void* workspace, int64_t count,
                                 int32_t accumulate);
ORIBI_API int64_t oribi_sum_workspace(int64_t count);
/* norm[0] = sqrt(sum_squares[0]); grad_scale[0] = max_norm > 0 ? min(1, max_norm / (norm + 1e-6)) : 1. As PyTorch. */
ORIBI_API oribi_status oribi_clip_scale(oribi_ctx* ctx, float* grad_scale, float* norm, const double* sum_squares,
                                        float max_norm);

/* -------------------------------------------------------------------------------------------------------------- nf4 */

/* A matrix W[out,in] in bitsandbytes' NF4 with double quantization (Dettmers et al. 2023), row-major, its `count` = out*in
   elements in blocks of 64 and blocks of blocks of 256:
     codes   [count/2]               two elements a byte, the first in the high four bits
     absmax  [count/64]              code of each block's largest magnitude less offset, in oribi_dynamic_map_signed
     absmax2 [ceil(count/64/256)]    largest magnitude of 256 of those
     offset  [1]                     their mean
   w = nf4[code] * (map[absmax] * absmax2 + offset). count is a multiple of 64. */
typedef struct oribi_nf4 {
  uint8_t* codes;
  uint8_t* absmax;
  float* absmax2;
  float* offset;
} oribi_nf4;
/* The arrays of q =, from w[count] of type t, code for code as bitsandbytes. workspace: oribi_nf4_workspace bytes. */
ORIBI_API oribi_status oribi_nf4_quantize(oribi_ctx* ctx, const oribi_nf4* q, const void* w, void* workspace,
                                          int64_t count, oribi_dtype t);
ORIBI_API int64_t oribi_nf4_workspace(int64_t count);
/* w[rows,cols] with ld elements from one row to the next =, rounded once from fp32. cols is a multiple of 64. */
ORIBI_API oribi_status oribi_nf4_dequantize(oribi_ctx* ctx, void* w, const oribi_nf4* q, int64_t rows, int64_t cols,
                                            int64_t ld, oribi_dtype t);

/* ------------------------------------------------------------------------------------------------------------- int8 */

/* A matrix W[rows,cols] in 8 bits, row-major, in blocks of 64 along each row; cols is a multiple of 64:
     codes [rows*cols]       in [-127, 127]
     scale [rows*cols/64]    each block's largest magnitude / 127
   w = code * scale. Rows from r on are a matrix of their own, at codes + r*cols and scale + r*cols/64. */
typedef struct oribi_int8 {
  int8_t* codes; /* aligned to 16 bytes */
  float* scale;  /* to 4 */
} oribi_int8;
/* The arrays of q =, from w[rows,cols] of type t. lost, all [rows*cols/64] =, each unless NULL: the sums over each block of the
   squares of w less what it decodes to in t, and of the squares of w. A block of zeros stays zeros; one that holds NaN or
   infinity decodes to NaN. */
ORIBI_API oribi_status oribi_int8_quantize(oribi_ctx* ctx, const oribi_int8* q, float* lost, float* all, const void* w,
                                           int64_t rows, int64_t cols, oribi_dtype t);
/* w[rows,cols] with ld elements from one row to the next =, rounded once from fp32. */
ORIBI_API oribi_status oribi_int8_dequantize(oribi_ctx* ctx, void* w, const oribi_int8* q, int64_t rows, int64_t cols,
                                             int64_t ld, oribi_dtype t);

/* ------------------------------------------------------------------------------------------------------------- ggml */

/* A matrix W[rows,cols] in ggml's blocks, as GGUF files hold it: each row is cols / (elements of a block) blocks one after the
   other; the numbers are ggml's own. Layouts: docs/derivations/ggml.md. Rows from r on are a matrix of their own. */
typedef enum oribi_ggml_type {
  ORIBI_GGML_F32 = 0,
  ORIBI_GGML_F16 = 1,
  ORIBI_GGML_Q4_0 = 2,
  ORIBI_GGML_Q4_1 = 3,
  ORIBI_GGML_Q5_0 = 6,
  ORIBI_GGML_Q5_1 = 7,
  ORIBI_GGML_Q8_0 = 8,
  ORIBI_GGML_Q4_K = 12,
  ORIBI_GGML_Q5_K = 13,
  ORIBI_GGML_Q6_K = 14,
  ORIBI_GGML_BF16 = 30
} oribi_ggml_type;
/* w[rows,cols] with ld elements from one row to the next =, in ggml's fp32 arithmetic, rounded once to t. */
ORIBI_API oribi_status oribi_ggml_dequantize(oribi_ctx* ctx, void* w, const void* blocks, int64_t rows, int64_t cols, int64_t ld,
                                             oribi_ggml_type type, oribi_dtype t);
/* y[N,C] = table[ids[N],:] of a table[V,C] in blocks, as oribi_embedding_forward. */
ORIBI_API oribi_status oribi_ggml_embedding(oribi_ctx* ctx, void* y, const void* table, const int32_t* ids, int64_t n,
                                            int64_t c, int64_t v, oribi_ggml_type type, oribi_dtype t);
/* y[N,out] = x[N,in]·Wᵀ for few rows, W[out,in] in blocks, which are decoded once for each row of x and never expanded in memory;
   ld_x, ld_y elements between rows, fp32; in is at most 2^18. For decoding on a CPU; a GPU answers UNSUPPORTED. */
ORIBI_API oribi_status oribi_ggml_matmul(oribi_ctx* ctx, float* y, const float* x, const void* w, int64_t n, int64_t in,
                                         int64_t out, int64_t ld_x, int64_t ld_y, oribi_ggml_type type);
/* The same with x rounded to 8 bits, as llama.cpp does: for each 32 elements, or 256 where the type's blocks hold 256,
   x = s * code with s = max|x| / 127 and code = x * 127 / max|x| rounded to nearest even; in is at most 2^17. For generating
   text, where what reads the result is rounded anyway; what a gradient is to pass through takes oribi_ggml_matmul. F32, F16 and
   BF16 have no blocks: x stays as it is. */
ORIBI_API oribi_status oribi_ggml_matmul_q8(oribi_ctx* ctx, float* y, const float* x, const void* w, int64_t n, int64_t in,
                                            int64_t out, int64_t ld_x, int64_t ld_y, oribi_ggml_type type);

/* -------------------------------------------------------------------------------------------------------------- fp8 */

/* A matrix [rows,cols] in e4m3 (8 bits: sign, 4 of exponent, 3 of fraction; no infinity, largest number 448; Micikevicius et
   al. 2022), row-major, with one scale a row:
     codes [rows*cols]
     scale [rows]       the row's largest magnitude / 448, at least 2^-126
   x = code * scale. A row that holds NaN or infinity decodes to NaN, all of it: scale NaN, codes 0x7f. Rows from r on are a
   matrix of their own, at codes + r*cols and scale + r. */
typedef struct oribi_fp8 {
  uint8_t* codes; /* aligned to 16 bytes */
  float* scale;   /* to 4 */
} oribi_fp8;
/* The arrays of q =, from x[rows,cols] of type t with ld elements from one row to the next: x / scale rounded to nearest even. */
ORIBI_API oribi_status oribi_fp8_quantize(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows, int64_t cols,
                                          int64_t ld, oribi_dtype t);
/* The same of x transposed: q is a matrix [cols,rows], with one scale for each column of x. */
ORIBI_API oribi_status oribi_fp8_quantize_transposed(oribi_ctx* ctx, const oribi_fp8* q, const void* x, int64_t rows,
                                                     int64_t cols, int64_t ld, oribi_dtype t);

/* ------------------------------------------------------------------------------------------------------------- lora */

/* One or several projections of the same input, stacked by rows of W[out,in], some or all with a LoRA adapter of one rank.
   Adapter p reads column block p of h[N,R] and g[N,R], R = adapters*rank, adds to columns first_out[p] .. + outs[p] of y,
   and owns rows p*rank .. of a[R,in] and a block of outs[p] rows of b[sum of outs, rank], in the order of the adapters.
   rank is a multiple of 8 and at most 256; adapters at most 4; scale[p] is lora_alpha / r. On a GPU sizes and strides are
   multiples of 8, and x, dx, y and dy begin at multiples of 16 bytes. */
typedef struct oribi_lora_shape {
  int64_t n, in, out;
  int64_t ld_x; /* of x and dx */
  int64_t ld_y; /* of y and dy */
  int64_t rank;
  int32_t adapters;
  oribi_dtype t; /* of x, y, W, a, b, h, g and their gradients but da and db: BF16 or F16; F32 on the CPU too */
  int64_t first_out[4], outs[4];
  float scale[4];
} oribi_lora_shape;
/* y[N,out] = x·Wᵀ + h·Bᵀ. h holds the scale: it comes from oribi_lora_h. w: W[out,in] of type t, or NULL, and then nf4. */
ORIBI_API oribi_status oribi_lora_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w, const oribi_nf4* nf4,
                                         const void* h, const void* b, const oribi_lora_shape* shape);
/* dx[N,in] = dy·W + g·A */
ORIBI_API oribi_status oribi_lora_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w, const oribi_nf4* nf4,
                                            const void* g, const void* a, const oribi_lora_shape* shape);
/* h[N,R] = scale * x·Aᵀ */
ORIBI_API oribi_status oribi_lora_h(oribi_ctx* ctx, void* h, const void* x, const void* a, void* workspace,
                                    const oribi_lora_shape* shape);
/* h = and y = of the two above, of which h may then be computed while the product has begun. Its last bits may differ from
   those of oribi_lora_h. */
ORIBI_API oribi_status oribi_lora_forward(oribi_ctx* ctx, void* y, void* h, const void* x, const void* w, const oribi_nf4* nf4,
                                          const void* a, const void* b, void* workspace, const oribi_lora_shape* shape);
/* One pass over dy: g[N,R] = scale * dy·B, db[sum of outs, rank] += dyᵀ·h, fp32 */
ORIBI_API oribi_status oribi_lora_g_db(oribi_ctx* ctx, void* g, float* db, const void* dy, const void* b, const void* h,
                                       void* workspace, const oribi_lora_shape* shape);
/* da[R,in] += gᵀ·x, fp32 */
ORIBI_API oribi_status oribi_lora_da(oribi_ctx* ctx, float* da, const void* g, const void* x, void* workspace,
                                     const oribi_lora_shape* shape);
/* Bytes that each of the above with a workspace needs, for at most this shape. */
ORIBI_API int64_t oribi_lora_workspace(const oribi_ctx* ctx, const oribi_lora_shape* shape);
/* Why a call with this shape and kind of weight has no kernel on the context's device: one sentence; NULL: it has one. */
ORIBI_API const char* oribi_lora_unsupported(oribi_ctx* ctx, const oribi_lora_shape* shape, int32_t nf4);

/* ---------------------------------------------------------------------------------------------------------- experts */

typedef enum oribi_router_score { ORIBI_SOFTMAX = 0, ORIBI_SIGMOID = 1 } oribi_router_score;

/* How each token chooses k of E experts. Its scores are softmax or sigmoid of its logits, in fp32. The experts stand in
   `groups` groups of neighbours; a token chooses among those of its top_groups best groups, a group's worth being the sum of
   its group_best best choices (1: DeepSeek V2, 2: V3). Among equals the lower index wins. E is at most 1024, k at most 32,
   groups at most 32. */
typedef struct oribi_router_shape {
  int64_t n, experts, k;
  int64_t groups, top_groups, group_best; /* 1, 1, 1: no groups */
  oribi_router_score score;
  int32_t normalize; /* a token's weights are divided by their sum, plus 1e-20 */
  float scale;       /* and then multiplied by this */
  oribi_dtype t;     /* of logits and dlogits */
} oribi_router_shape;
/* expert[N,k] in the order of choice, weight[N,k] fp32, from logits[N,E]. bias[E] fp32 is added to the scores for the choice
   alone; NULL: none. NaN is chosen last. */
ORIBI_API oribi_status oribi_router_forward(oribi_ctx* ctx, int32_t* expert, float* weight, const void* logits,
                                            const float* bias, const oribi_router_shape* shape);
/* dlogits[N,E] = from dweight[N,k]; the choice has no gradient. */
ORIBI_API oribi_status oribi_router_backward(oribi_ctx* ctx, void* dlogits, const int32_t* expert, const float* dweight,
                                             const void* logits, const oribi_router_shape* shape);

/* Sorts the N*k pairs of a token and a chosen expert by expert, and by pair within an expert, where pair = token*k + j:
   offsets[E+1]   the rows of expert e are offsets[e] .. offsets[e+1]
   pair[N*k]      of each row
   token[N*k]     of each row
   row[N*k]       of each pair
   An expert outside [0, E) is INVALID_ARGUMENT; a GPU takes it for 0. workspace: oribi_route_workspace bytes. */
ORIBI_API oribi_status oribi_route(oribi_ctx* ctx, int32_t* offsets, int32_t* pair, int32_t* token, int32_t* row,
                                   const int32_t* expert, void* workspace, int64_t n, int64_t k, int64_t experts);
ORIBI_API int64_t oribi_route_workspace(int64_t n, int64_t k, int64_t experts);
/* y[N,C] = (accumulate ? y : 0) + the sum over j < k of x[row[token*k + j],:], in that order in fp32, rounded once. */
ORIBI_API oribi_status oribi_unroute(oribi_ctx* ctx, void* y, const void* x, const int32_t* row, int64_t n, int64_t k,
                                     int64_t c, int32_t accumulate, oribi_dtype t);

/* A product with a matrix for each expert. Row i of x and y belongs to the expert e with offsets[e] <= i < offsets[e+1]. */
typedef struct oribi_grouped_shape {
  int64_t n; /* rows, no fewer than offsets[E]; those beyond belong to no expert and stay as they are */
  int64_t experts, in, out;
  int64_t ld_x, ld_y;      /* of x and dx, of y and dy */
  int64_t ld_w, expert_w;  /* elements from one row of a W[out,in] to the next, and from one expert's to the next; for dw at
                              least `in`, as no two experts may share an element */
  const int32_t* offsets;  /* [E+1], from 0, ascending, in the device's memory */
  const int32_t* x_row;    /* [n]: where row i of x is read; NULL: at i */
  const int32_t* y_row;    /* the same of dy */
  float scale;
  int32_t accumulate;
  oribi_dtype t; /* of x, y, w and their gradients but dw */
} oribi_grouped_shape;
/* y[i] = (accumulate ? y[i] : 0) + scale * x[x_row[i]]·W_eᵀ; the sum in fp32, rounded once. y_row must be NULL. */
ORIBI_API oribi_status oribi_grouped_matmul(oribi_ctx* ctx, void* y, const void* x, const void* w,
                                            const oribi_grouped_shape* shape);
/* dx[i] = (accumulate ? dx[i] : 0) + scale * dy[y_row[i]]·W_e. x_row must be NULL. */
ORIBI_API oribi_status oribi_grouped_matmul_dx(oribi_ctx* ctx, void* dx, const void* dy, const void* w,
                                               const oribi_grouped_shape* shape);
/* dW_e[out,in] += scale * the sum over the rows i of e of dy[y_row[i]]ᵀ·x[x_row[i]], fp32, with the strides of w.
   accumulate must be 1. */
ORIBI_API oribi_status oribi_grouped_matmul_dw(oribi_ctx* ctx, float* dw, const void* dy, const void* x,
                                               const oribi_grouped_shape* shape);

/* f[n,F] = weight[pair[i]] * round(act(gate)) * up of gu[n,2F]: a glu whose rows are weighted, which weights what the next
   product, linear in f, makes of them. pair[n] in [0, n) as oribi_route makes it, weight[n] fp32. */
ORIBI_API oribi_status oribi_weighted_glu_forward(oribi_ctx* ctx, void* f, const void* gu, const float* weight,
                                                  const int32_t* pair, int64_t n, int64_t f_size, oribi_activation act,
                                                  oribi_dtype t);
/* dgu[n,2F] =, dweight[pair[i]] = unless dweight is NULL; dgu may be gu. f = the forward pass's f once more, to the bit,
   unless f is NULL; f may be df. */
ORIBI_API oribi_status oribi_weighted_glu_backward(oribi_ctx* ctx, void* dgu, void* f, float* dweight, const void* df,
                                                   const void* gu, const float* weight, const int32_t* pair, int64_t n,
                                                   int64_t f_size, oribi_activation act, oribi_dtype t);

/* --------------------------------------------------------------------------------------------------------- sampling */

typedef struct oribi_sample_options {
  float temperature; /* 0: greedy, the lowest index among equals */
  int32_t top_k;     /* 0: off */
  float top_p;       /* 1: off. Smallest set whose probability reaches top_p, as Hugging Face's TopPLogitsWarper */
  float min_p;       /* 0: off. Drops what is below min_p times the most likely */
  float repetition_penalty; /* 1: off. Positive logits of seen tokens are divided by it, negative ones multiplied */
  uint64_t seed, stream;    /* row i draws Philox(seed, stream, i) */
} oribi_sample_options;
/* token[N] drawn from fp32 logits[N,V], in the order: penalty, temperature, top_k, top_p, min_p. seen: token ids
   [seen_count] of row 0 only (N must be 1 when a penalty is set). A row with a NaN or +infinity, or nothing finite, is
   INVALID_ARGUMENT. V is at most 262144 on a GPU. workspace: oribi_sample_workspace bytes. */
ORIBI_API oribi_status oribi_sample(oribi_ctx* ctx, int32_t* token, const float* logits, const int32_t* seen,
                                    void* workspace, int64_t n, int64_t v, int64_t seen_count,
                                    const oribi_sample_options* options);
ORIBI_API int64_t oribi_sample_workspace(int64_t n, int64_t v);

#ifdef __cplusplus
}
#endif
#endif
