// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Assembly of single kernels, as compiled models have them.

#ifndef TERCET_TESTS_PIPELINE_KERNELCODE_H
#define TERCET_TESTS_PIPELINE_KERNELCODE_H

#include "compiler/Pipeline/Pipeline.h"

#include "mlir/IR/MLIRContext.h"

#include <optional>
#include <string>
#include <vector>

namespace tercet {

/// Assembly of packed_matmul, with scales of groups if there are any.
class MatmulCode {
public:
  MatmulCode(llvm::StringRef targetText, int64_t rows, int64_t columns,
             std::optional<int64_t> group = {});

  /// The layout with the backend's schedule.
  ternary::LayoutAttr selected(ternary::Packing packing);

  ternary::LayoutAttr withSchedule(ternary::Packing packing,
                                   ternary::Schedule schedule);

  /// For as many tokens as the caller of the code says, up to kMaxTokens, or
  /// for `tokens` of them.
  std::string emit(ternary::LayoutAttr layout,
                   std::optional<int64_t> tokens = {});

  static constexpr int64_t kMaxTokens = 64;

private:
  int64_t rows, columns;
  std::optional<int64_t> group;
  mlir::MLIRContext context;
  CompileOptions options;
};

/// Assembly of a quantised head in the format, with the schedule that is
/// selected for a target, for any number of tokens or so many.
std::string emitHead(llvm::StringRef targetText, ternary::CodeFormat format,
                     int64_t rows, int64_t columns,
                     std::optional<int64_t> tokens = {});

/// The same of a head of bf16.
std::string emitBF16Head(llvm::StringRef targetText, int64_t rows,
                         int64_t columns, std::optional<int64_t> tokens = {});

/// Assembly of attention with keys and values of f32 for heads of 128 and four
/// query heads to a KV head, of rms_norm and of quantize_activations.
std::string emitAttention(llvm::StringRef targetText);
std::string emitRMSNorm(llvm::StringRef targetText, int64_t columns);
std::string emitQuantizeActivations(llvm::StringRef targetText,
                                    int64_t columns);

/// The innermost loops of an assembly file, as their lines.
std::vector<std::vector<llvm::StringRef>>
findInnermostLoops(llvm::StringRef assembly);

} // namespace tercet

#endif // TERCET_TESTS_PIPELINE_KERNELCODE_H
