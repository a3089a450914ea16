#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace paceline {

template <std::size_t n>
using Vector = std::array<double, n>;
template <std::size_t n>
using Matrix = std::array<Vector<n>, n>;  ///< by rows; of a symmetric one only the lower half is read

/// Turns a symmetric matrix into its lower Cholesky factor; false: it isn't positive definite, and is spoilt.
template <std::size_t n>
[[nodiscard]] bool factorize(Matrix<n>& a) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      if (i != j) {
        a[i][j] = sum / a[j][j];
      } else if (sum > 0 && std::isfinite(sum)) {
        a[i][i] = std::sqrt(sum);
      } else {
        return false;
      }
    }
  }
  return true;
}

/// The x of a x = b, by the factor of a.
template <std::size_t n>
[[nodiscard]] Vector<n> solve(const Matrix<n>& factor, Vector<n> b) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= factor[i][k] * b[k];
    b[i] /= factor[i][i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= factor[k][i] * b[k];
    b[i] /= factor[i][i];
  }
  return b;
}

}  // namespace paceline
