/* The embedding's forward and backward pass as their definition reads. Real as in the other references. */
#ifndef ORIBI_REFERENCE_EMBEDDING_H
#define ORIBI_REFERENCE_EMBEDDING_H

#include <cstdint>
#include <vector>

namespace reference {

inline std::vector<double> embedding_forward(const std::vector<double>& table, const std::vector<int32_t>& ids, int64_t c) {
  std::vector<double> y;
  for (int32_t id : ids) y.insert(y.end(), table.begin() + id * c, table.begin() + (id + 1) * c);
  return y;
}

/* dtable += */
template <class Real>
void embedding_backward(std::vector<double>& dtable, const std::vector<double>& dy, const std::vector<int32_t>& ids, int64_t c) {
  for (size_t row = 0; row < ids.size(); row++) {
    for (int64_t i = 0; i < c; i++) dtable[ids[row] * c + i] = Real(dtable[ids[row] * c + i]) + Real(dy[row * c + i]);
  }
}

}  // namespace reference
#endif
