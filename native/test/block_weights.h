/* Matrices of weights as the tests of formats with blocks of 64 elements use them. */
#ifndef ORIBI_TEST_BLOCK_WEIGHTS_H
#define ORIBI_TEST_BLOCK_WEIGHTS_H

#include "check.h"

namespace check {

struct Matrix {
  int64_t rows, cols;
};

/* Normal numbers as the type holds them, in blocks of different sizes; names the case for what fails. */
inline std::vector<double> block_weights(Matrix m, oribi_dtype t) {
  Random random(static_cast<uint64_t>(m.rows * 131 + m.cols));
  std::vector<double> w = random.normals(m.rows * m.cols, 0, 0.02);
  for (int64_t i = 0; i < m.rows * m.cols; i++) w[i] *= i / 64 % 7 == 3 ? 5 : 1;
  where = std::to_string(m.rows) + "x" + std::to_string(m.cols) + " " + name_of(t);
  return rounded(w, t);
}

}  // namespace check
#endif
