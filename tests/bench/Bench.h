// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the benchmarks of kernels share: memory, the text of a kernel, and
// registration with Google Benchmark.

#ifndef TERCET_TESTS_BENCH_BENCH_H
#define TERCET_TESTS_BENCH_BENCH_H

#include "tests/conversion/KernelJIT.h"

#include "compiler/Target/ParseTarget.h"

#include "llvm/ADT/StringRef.h"

#include <functional>
#include <string>

namespace tercet::bench {

/// One way to run a kernel.
struct Case {
  std::function<void()> run;
  double work; ///< of a call, in `unit`s
  const char *unit;
};

inline constexpr const char *kBytes = "B/s", *kMACs = "MAC/s",
                            *kElements = "element/s";

/// Registers a benchmark, whose case is made (compiled) when it runs first.
void add(std::string name, std::function<Case()> make);

/// Zeroed memory on huge pages, kept until the end.
void *allocateBytes(size_t size);
template <typename T> T *allocate(int64_t count) {
  return static_cast<T *>(allocateBytes(count * sizeof(T)));
}

/// Zeroed weights, the same for all benchmarks that ask for this size.
uint8_t *getWeights(int64_t size);

template <typename T> MemRef<T, 1> wrap(T *data, int64_t count) {
  return {data, data, 0, {count}, {1}};
}
template <typename T>
MemRef<T, 2> wrap(T *data, int64_t rows, int64_t columns) {
  return {data, data, 0, {rows, columns}, {columns, 1}};
}
template <typename T> MemRef<T, 1> makeVector(int64_t count) {
  return wrap(allocate<T>(count), count);
}
template <typename T> MemRef<T, 2> makeMatrix(int64_t rows, int64_t columns) {
  return wrap(allocate<T>(rows * columns), rows, columns);
}
/// Values between -1 and 1.
MemRef<float, 2> makeFloats(int64_t rows, int64_t columns);

/// Source of a module with the function that KernelJIT looks for.
std::string makeKernel(const std::string &arguments, const std::string &body);

/// Memref of any number of rows of floats.
std::string getRowsType(int64_t columns);

/// Text of a layout as a part of a name: without brackets and spaces.
std::string toName(llvm::StringRef layout);

/// Work of a matrix times tokens: one token reads the matrix, more of them
/// compute.
Case makeMatrixCase(std::function<void()> run, int64_t sizeInBytes,
                    int64_t rows, int64_t columns, int64_t numTokens);

void addMachine();
void addAttention();
void addHeads();
void addMatmuls(const TargetSpec &target);
void addRows();
void addIntrinsics(const TargetSpec &target);

} // namespace tercet::bench

#endif // TERCET_TESTS_BENCH_BENCH_H
