// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs a kernel in this process, or emulated if it is for another architecture:
// ternary ops on memrefs of any strides, through lower-kernels and upstream's
// conversions. scf.parallel runs its items one after another.

#ifndef TERCET_TESTS_CONVERSION_KERNELJIT_H
#define TERCET_TESTS_CONVERSION_KERNELJIT_H

#include "compiler/Tune/LoadedCode.h"
#include "tests/conversion/EmulatedKernel.h"

#include "llvm/ADT/StringRef.h"

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace tercet {

/// MLIR's memref descriptor.
template <typename T, size_t Rank> struct MemRef {
  T *allocated, *aligned;
  int64_t offset = 0;
  std::array<int64_t, Rank> sizes, strides;
};

template <typename T> MemRef<T, 1> makeMemRef(std::vector<T> &data) {
  return {data.data(), data.data(), 0, {int64_t(data.size())}, {1}};
}

/// Rows of `stride` elements.
template <typename T>
MemRef<T, 2> makeMemRef(std::vector<T> &data, int64_t columns, int64_t stride) {
  int64_t rows = int64_t(data.size()) / stride;
  return {data.data(), data.data(), 0, {rows, columns}, {stride, 1}};
}

/// An array without gaps.
template <typename T, size_t Rank>
MemRef<T, Rank> makeContiguous(T *data,
                               const std::array<int64_t, Rank> &sizes) {
  MemRef<T, Rank> memref = {data, data, 0, sizes, {}};
  int64_t stride = 1;
  for (size_t i = Rank; i-- > 0; stride *= sizes[i])
    memref.strides[i] = stride;
  return memref;
}

/// As EmulatedKernel takes it.
template <typename T, size_t Rank>
KernelArgument describeArgument(const MemRef<T, Rank> &memref) {
  return {/*value=*/0,
          memref.aligned,
          sizeof(T),
          {memref.sizes.begin(), memref.sizes.end()},
          {memref.strides.begin(), memref.strides.end()}};
}
inline KernelArgument describeArgument(int64_t value) { return {value}; }

class KernelJIT {
public:
  /// Compiles `source`, a module with a function @kernel on memrefs and
  /// integers. Ends the program with a diagnostic where that fails. Without a
  /// target, it is that of the environment's TERCET_TEST_TARGET, or this
  /// machine.
  explicit KernelJIT(llvm::StringRef source, int64_t accumulators = 16,
                     std::optional<TargetSpec> target = {});

  /// Whether this machine runs code for a target; Emulated: its dot products
  /// only, by AVXVNNIEmulator, which counts them; Foreign: as EmulatedKernel.
  enum class Support { None, Emulated, Foreign, Native };
  static Support prepareFor(llvm::StringRef target);

  /// Descriptors are passed by pointer.
  template <typename... Args> void operator()(Args... args) {
    if (emulated)
      return emulated->run({describeArgument(args)...});
    reinterpret_cast<void (*)(decltype(passed(args))...)>(function)(
        passed(args)...);
  }

private:
  template <typename T, size_t Rank>
  static MemRef<T, Rank> *passed(MemRef<T, Rank> &memref) {
    return &memref;
  }
  static int64_t passed(int64_t value) { return value; }

  std::optional<LoadedCode> code;
  void (*function)() = nullptr;
  /// Instead, for another architecture.
  std::optional<EmulatedKernel> emulated;
};

} // namespace tercet

#endif // TERCET_TESTS_CONVERSION_KERNELJIT_H
