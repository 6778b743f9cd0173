/*
 * How attention's work is cut into tasks and its workspace into pieces, and the checks of its sequences: shared by the
 * forward and the backward pass.
 */
#ifndef ORIBI_CPU_ATTENTION_PLAN_H
#define ORIBI_CPU_ATTENTION_PLAN_H

#include <algorithm>
#include <cstdint>

#include "common/attention.h"
#include "cpu/attention_tile.h"

namespace oribi::attention {

constexpr int64_t kAlign = 64; /* bytes */

/* Hands out pieces of the workspace. */
struct Scratch {
  char* at;

  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(at);
    at += round_up(count * static_cast<int64_t>(sizeof(T)), kAlign);
    return piece;
  }
};

inline int64_t bytes_of_floats(int64_t count) { return round_up(count * static_cast<int64_t>(sizeof(float)), kAlign); }

inline Group group_of(const Shape& shape, int64_t sequence, int64_t kv_head) {
  Group group;
  group.query_begin = shape.cu_seqlens[sequence];
  group.query_count = shape.cu_seqlens[sequence + 1] - group.query_begin;
  group.key_begin = shape.kv_start ? shape.kv_start[sequence] : group.query_begin;
  group.key_count = shape.kv_start ? shape.kv_len[sequence] : group.query_count;
  group.kv_head = kv_head;
  group.heads = shape.h / shape.h_kv;
  group.window = shape.window > 0 && shape.window < INT32_MAX ? shape.window : INT32_MAX;
  return group;
}

inline int64_t blocks_of(const Group& group) { return (group.rows() + kBlockRows - 1) / kBlockRows; }

/* Divides work into tasks: first[s] is the number of tasks before sequence s, for one key head. */
struct Tasks {
  int64_t* first; /* [S+1] */
  int64_t sequences, kv_heads;

  template <class Count>
  void fill(const Shape& shape, Count count) {
    first[0] = 0;
    for (int64_t s = 0; s < sequences; s++) first[s + 1] = first[s] + count(group_of(shape, s, 0));
  }

  int64_t total() const { return first[sequences] * kv_heads; }

  /* Tasks are handed out from the last, which sees the most keys, so that the short ones fill the end. */
  struct Task {
    int64_t sequence, index, kv_head;
  };
  Task operator[](int64_t i) const {
    const int64_t at = first[sequences] - 1 - i / kv_heads;
    const int64_t s = std::upper_bound(first, first + sequences + 1, at) - first - 1;
    return {s, at - first[s], i % kv_heads};
  }
};

/* Sequences follow each other from row 0 to row n, each with at least as many keys as queries. */
inline void check_sequences(Check& check, const Shape& s) {
  check.that(s.cu_seqlens[0] == 0 && s.cu_seqlens[s.sequences] == s.n,
             "cu_seqlens must begin with 0 and end with n = %lld, found %d and %d", (long long)s.n, s.cu_seqlens[0],
             s.cu_seqlens[s.sequences]);
  for (int64_t i = 0; i < s.sequences && check.ok(); i++) {
    const int32_t begin = s.cu_seqlens[i], end = s.cu_seqlens[i + 1];
    check.that(begin <= end, "cu_seqlens must not fall, found %d after %d at sequence %lld", end, begin, (long long)i);
    if (s.kv_start == nullptr) continue;
    check.that(s.kv_start[i] >= 0, "kv_start[%lld] must not be negative, found %d", (long long)i, s.kv_start[i]);
    check.that(s.kv_len[i] >= end - begin, "kv_len[%lld] must be at least the %d queries of its sequence, found %d",
               (long long)i, end - begin, s.kv_len[i]);
  }
}

/* Bytes of the table of tasks with which both workspaces begin. */
inline int64_t table_bytes(const Shape& shape) {
  return round_up((shape.sequences + 1) * static_cast<int64_t>(sizeof(int64_t)), kAlign);
}

int64_t backward_workspace(const Shape& shape, int64_t threads);

}  // namespace oribi::attention
#endif
