// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The results of every kernel of an executable, bit for bit against the
// interpreter's. Each (compiler/Support/Kernels.h) has its counterpart, in the
// same order, in the module on tensors after pack-weights, which the
// interpreter runs.

#ifndef TERCET_COMPILER_REFERENCE_COMPARETRACE_H
#define TERCET_COMPILER_REFERENCE_COMPARETRACE_H

#include "compiler/Reference/ArtifactProgram.h"
#include "compiler/Reference/Interpreter.h"

namespace tercet::reference {

class TraceComparison {
public:
  /// Runs one step of `program` on the first of `tokens`. `planned` is its
  /// module after plan-memory.
  static llvm::Expected<TraceComparison> create(const ArtifactProgram &program,
                                                llvm::ArrayRef<int32_t> tokens,
                                                mlir::ModuleOp planned);

  /// An Interpreter::Observer of the module after pack-weights.
  void observe(mlir::Operation *op, llvm::ArrayRef<Value> operands,
               llvm::ArrayRef<Value> results);

  /// Whether all kernels were compared and computed the same.
  bool passed() const { return !difference && next == tracedOps.size(); }
  /// The first difference, or what was compared.
  std::string describe() const;

private:
  /// A result in the arena; rows are tokens.
  struct Placement {
    unsigned result;
    uint64_t offset, stride; ///< bytes
    int64_t numColumns, elementSize;
    uint64_t size(int64_t numRows) const {
      return (numRows - 1) * stride + numColumns * elementSize;
    }
  };
  /// Of a kernel, or one of those that it fuses.
  struct TracedOp {
    llvm::StringRef name;
    llvm::SmallVector<Placement, 3> placements;
  };

  static std::optional<Placement> place(unsigned result, mlir::Value buffer);
  void compareResult(mlir::Operation *op, const Placement &placement,
                     const Value &expected, int64_t numColumns);

  int64_t numTokens = 0;
  size_t numKernels = 0;
  std::vector<TracedOp> tracedOps;
  size_t next = 0, numResults = 0;
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  llvm::StringRef rest; ///< of the buffer
  std::optional<std::string> difference;
};

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_COMPARETRACE_H
