// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles an ONNX graph for this machine and runs it in this process.

#ifndef TERCET_COMPILER_JIT_GRAPHJIT_H
#define TERCET_COMPILER_JIT_GRAPHJIT_H

#include "compiler/Pipeline/Pipeline.h"
#include <memory>

namespace tercet {

/// A tensor on the host; elements as tercet/graph.h lays them out.
struct HostTensor {
  llvm::SmallVector<int64_t> shape;
  std::vector<char> bytes;
};

class GraphJIT {
public:
  /// Compiles a module with @graph, as imported; `options.target` has to be
  /// one that this machine runs.
  static llvm::Expected<GraphJIT>
  create(mlir::OwningOpRef<mlir::ModuleOp> module,
         const CompileOptions &options, unsigned numThreads = 1);

  /// Links a compiled module; create() does both.
  static llvm::Expected<GraphJIT> link(const CompiledModel &model,
                                       const TargetSpec &target,
                                       unsigned numThreads = 1);

  GraphJIT(GraphJIT &&);
  GraphJIT &operator=(GraphJIT &&);
  ~GraphJIT();

  const GraphSignature &signature() const;

  /// An error where the graph does not take such inputs or an operator refuses
  /// them.
  llvm::Expected<std::vector<HostTensor>>
  run(llvm::ArrayRef<HostTensor> inputs);

private:
  struct Impl;
  explicit GraphJIT(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

/// Compiles and runs the @graph of a module, which has no inputs; for
/// FoldConstants.
llvm::Expected<llvm::SmallVector<mlir::ElementsAttr>>
evaluateGraph(mlir::OwningOpRef<mlir::ModuleOp> module);

} // namespace tercet

#endif // TERCET_COMPILER_JIT_GRAPHJIT_H
