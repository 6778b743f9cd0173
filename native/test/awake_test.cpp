/* oribi_ctx_keep_awake: threads that wait for the next call give the same bits, whether they are awake, asleep or too many. */
#include "check.h"

#include <chrono>
#include <thread>

using namespace check;

namespace {

constexpr int64_t kHeads = 6, kHeadSize = 64, kKeys = 300, kOut = 1023, kIn = 512;

/* A product, and attention of one query to a cache: a task a head, each with scratch of its thread's number. */
class Calls {
 public:
  Calls() : q_(Random(1).normals(kHeads * kHeadSize), ORIBI_F32), kv_(Random(2).normals(kKeys * kHeadSize), ORIBI_F32),
            x_(Random(3).normals(kIn), ORIBI_F32), w_(Random(4).normals(kOut * kIn), ORIBI_F32) {
    shape_.n = 1;
    shape_.sequences = 1;
    shape_.h = kHeads;
    shape_.h_kv = 1;
    shape_.d = shape_.ld_k = shape_.ld_v = kHeadSize;
    shape_.ld_q = shape_.ld_o = kHeads * kHeadSize;
    shape_.cu_seqlens = cu_seqlens_.data();
    shape_.kv_start = start_.data();
    shape_.kv_len = length_.data();
    shape_.scale = 0.125f;
    shape_.t = ORIBI_F32;
  }

  std::vector<double> run(oribi_ctx* ctx) {
    Array y(static_cast<size_t>(kOut), ORIBI_F32, NAN), o(static_cast<size_t>(kHeads * kHeadSize), ORIBI_F32, NAN);
    Plain<uint8_t> workspace(static_cast<size_t>(oribi_attention_workspace(ctx, &shape_, 0)) + 1);
    CHECK_OK(ctx, oribi_attention_forward(ctx, o.data(), nullptr, q_.data(), kv_.data(), kv_.data(), workspace.data(), &shape_));
#ifndef ORIBI_TEST_CUDA
    CHECK_OK(ctx, oribi_ggml_matmul_q8(ctx, y.f32(), x_.f32(), w_.data(), 1, kIn, kOut, kIn, kOut, ORIBI_GGML_F32));
#else
    CHECK_OK(ctx, oribi_scale(ctx, y.data(), w_.data(), kOut, 2, 0, ORIBI_F32));
#endif
    CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
    std::vector<double> all = y.values();
    for (double v : o.values()) all.push_back(v);
    return all;
  }

 private:
  Array q_, kv_, x_, w_;
  Plain<int32_t> cu_seqlens_{0, 1}, start_{0}, length_{static_cast<int32_t>(kKeys)};
  oribi_attention_shape shape_ = {};
};

}  // namespace

TEST(same_bits) {
  Calls calls;
  Context alone(1);
  const std::vector<double> expected = calls.run(alone);
  for (int32_t threads : {1, 2, 3, 7}) {
    where = "same_bits, threads " + std::to_string(threads);
    Context ctx(threads);
    for (int round = 0; round < (quick() ? 1 : 3); round++) {
      CHECK_OK(ctx, oribi_ctx_keep_awake(ctx, 1));
      for (int i = 0; i < 200; i++) {
        const std::vector<double> found = calls.run(ctx);
        if (i % 50 == 0 || found != expected) compare_within("y, o", found, expected, 0);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5)); /* long enough for all to sleep */
      compare_within("after sleep", calls.run(ctx), expected, 0);
      CHECK_OK(ctx, oribi_ctx_keep_awake(ctx, 0));
      compare_within("off", calls.run(ctx), expected, 0);
    }
  }
}

/* Threads that wait, awake or asleep, do not outlive their context. */
TEST(contexts_end) {
  for (int i = 0; i < 50; i++) {
    Context ctx(4);
    CHECK_OK(ctx, oribi_ctx_keep_awake(ctx, i % 3 != 0));
    CHECK_OK(ctx, oribi_ctx_keep_awake(ctx, 1));
    if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(oribi_ctx_keep_awake(nullptr, 1) == ORIBI_INVALID_ARGUMENT);
}
