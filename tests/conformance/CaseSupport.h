// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_TESTS_CONFORMANCE_CASESUPPORT_H
#define TERCET_TESTS_CONFORMANCE_CASESUPPORT_H

#include "compiler/Reference/ReferenceOps.h"
#include "compiler/Target/Backend.h"
#include "tests/conformance/Cases.h"
#include "tests/conversion/KernelJIT.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "gtest/gtest.h"

#include <array>
#include <cstring>
#include <map>
#include <random>

namespace tercet::conformance {

/// A value that no kernel computes: marks memory that must not be written.
inline constexpr float kUntouched = 12345.25f;

/// Elements between rows, so that columns beyond the last are seen when
/// written.
inline constexpr int64_t kRowGap = 3;

/// Deterministic values, different for each seed.
class Random {
public:
  explicit Random(unsigned seed) : generator(seed) {}

  int64_t integer(int64_t low, int64_t high) {
    return low + int64_t(generator() % uint64_t(high - low + 1));
  }
  reference::Floats floats(llvm::ArrayRef<int64_t> shape, float range = 2) {
    reference::Floats array(shape);
    for (float &value : array.data)
      value = std::uniform_real_distribution<float>(-range, range)(generator);
    return array;
  }
  /// Floats that bf16 holds exactly.
  reference::Floats bf16s(llvm::ArrayRef<int64_t> shape) {
    reference::Floats array = floats(shape, 0.5f);
    for (float &value : array.data)
      value =
          llvm::bit_cast<float>(llvm::bit_cast<uint32_t>(value) & 0xffff0000);
    return array;
  }
  reference::Ints ids(int64_t count, int64_t end) {
    reference::Ints array({count});
    for (int32_t &value : array.data)
      value = integer(0, end - 1);
    return array;
  }

private:
  std::mt19937 generator;
};

inline std::vector<uint16_t> toBF16(const reference::Floats &array) {
  std::vector<uint16_t> bits;
  for (float value : array.data)
    bits.push_back(llvm::bit_cast<uint32_t>(value) >> 16);
  return bits;
}

/// `memref<?x40xf32, ...>` with a gap between rows.
inline std::string rowsType(int64_t columns, llvm::StringRef element = "f32") {
  return llvm::formatv("memref<?x{0}x{1}, strided<[{2}, 1]>>", columns, element,
                       columns + kRowGap);
}

/// Rows with a gap between them, which nobody may write.
template <typename T> class Rows {
public:
  Rows(int64_t rows, int64_t columns, T fill)
      : columns(columns), data(rows * (columns + kRowGap), fill), fill(fill) {}
  Rows(const reference::Array<T> &array, T fill)
      : Rows(array.shape[0], array.shape[1], fill) {
    for (int64_t i = 0; i < array.shape[0]; ++i)
      llvm::copy(array.row(i), row(i));
  }

  /// The first rows, or all.
  MemRef<T, 2> first(int64_t rows = -1) {
    MemRef<T, 2> memref = makeMemRef(data, columns, columns + kRowGap);
    if (rows >= 0)
      memref.sizes[0] = rows;
    return memref;
  }

  /// Expects the first rows of `expected`, and that nothing else was written.
  void expect(const reference::Array<T> &expected, int64_t rows = -1) {
    int64_t numRows = data.size() / (columns + kRowGap);
    for (int64_t i = 0; i < numRows; ++i)
      for (int64_t j = 0; j < columns + kRowGap; ++j) {
        bool isWritten = j < columns && (rows < 0 || i < rows);
        T wanted = isWritten ? expected.row(i)[j] : fill;
        ASSERT_EQ(std::memcmp(&row(i)[j], &wanted, sizeof(T)), 0)
            << "row " << i << " of " << rows << ", column " << j << ": "
            << +row(i)[j] << ", expected " << +wanted;
      }
  }

private:
  T *row(int64_t i) { return &data[i * (columns + kRowGap)]; }

  int64_t columns;
  std::vector<T> data;
  T fill;
};

/// Which the op's syntax leaves out.
inline constexpr llvm::StringLiteral kLayoutPrefix = "#ternary.layout";

/// What the sums become with weight scales of row groups, or of rows and
/// groups.
inline reference::Floats rescaleAll(const reference::Ints &acc,
                                    const reference::Floats &scale,
                                    const reference::Floats &scales) {
  reference::Floats y({acc.shape.front(), acc.shape.back()});
  if (acc.shape.size() == 3) {
    reference::rescaleGroups(acc, scale, reference::unpackGroupScales(scales),
                             0, y);
    return y;
  }
  for (int64_t group = 0; group < scales.shape[0]; ++group)
    reference::rescale(acc, scale, scales.data[group],
                       group * ternary::kRowGroup,
                       (group + 1) * ternary::kRowGroup, y);
  return y;
}

/// `memref<4x2x16xf32>` of a contiguous array.
inline std::string memrefType(llvm::ArrayRef<int64_t> shape,
                              llvm::StringRef element) {
  std::string type = "memref<";
  for (int64_t size : shape)
    type += std::to_string(size) + "x";
  return type + element.str() + ">";
}

/// Compiles `body` as the backend of `target` would, once for all cases that
/// come to the same text, as sizes do whose padded sizes are equal.
inline KernelJIT &compile(const TargetSpec &target,
                          const std::string &arguments,
                          const std::string &body) {
  static std::map<std::array<std::string, 3>, KernelJIT> kernels;
  std::string source = llvm::formatv(
      "func.func @kernel({0}) {{\n{1}\nreturn\n}", arguments, body);
  return kernels
      .try_emplace({target.text, target.tuneCpu, source}, source,
                   getBackend(target).getFloatAccumulators(target), target)
      .first->second;
}

void addMatmulCases(std::vector<Case> &cases);
void addWindowCases(std::vector<Case> &cases);
void addFloatCases(std::vector<Case> &cases);
void addHeadCases(std::vector<Case> &cases);
void addPackedFloatCases(std::vector<Case> &cases);

} // namespace tercet::conformance

#endif // TERCET_TESTS_CONFORMANCE_CASESUPPORT_H
