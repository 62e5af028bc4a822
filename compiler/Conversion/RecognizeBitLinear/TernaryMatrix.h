// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_CONVERSION_TERNARYMATRIX_H
#define TERCET_COMPILER_CONVERSION_TERNARYMATRIX_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace tercet {

/// A row-major float matrix.
struct FloatMatrix {
  int64_t rows, columns;
  std::vector<float> values;

  FloatMatrix transposed() const;
};

/// A float matrix as trits times scales.
struct TernaryMatrix {
  int64_t rows, columns;
  std::vector<int8_t> trits;
  /// Columns that share a scale, a multiple of 16; 0: the whole matrix does.
  int64_t group;
  /// One, or [rows, groups], the last group of a row of what is left.
  std::vector<float> scales;

  /// Groups of a row; there are some.
  int64_t numGroups() const { return scales.size() / rows; }
  /// Gives each row scales of its own, if there is one of the matrix.
  void spreadScales();
};

/// The form of fewest scales, if the values are ternary: -g, 0 and g with one g
/// for the matrix, or for each row, or for each group of 16 or more columns.
std::optional<TernaryMatrix> splitTernary(const FloatMatrix &matrix);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_TERNARYMATRIX_H
