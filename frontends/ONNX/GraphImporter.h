// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_FRONTENDS_ONNX_GRAPHIMPORTER_H
#define TERCET_FRONTENDS_ONNX_GRAPHIMPORTER_H

#include "frontends/ONNX/Functions.h"
#include "frontends/Support/InputError.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/OwningOpRef.h"

namespace tercet::onnx {

/// The names of one graph or function body.
struct Scope {
  Scope(mlir::Block *block, const OpsetVersions &opsetVersions)
      : block(block), opsetVersions(&opsetVersions) {}
  /// Of a subgraph, which sees the names around it.
  Scope(mlir::Block *block, Scope &outer)
      : block(block), outer(&outer), opsetVersions(outer.opsetVersions),
        prefix(outer.prefix) {}

  bool contains(llvm::StringRef name) const {
    return values.contains(name) || initializers.contains(name) ||
           sparseInitializers.contains(name);
  }

  mlir::Block *block;
  Scope *outer = nullptr;
  const OpsetVersions *opsetVersions;
  std::string prefix; ///< of names of nodes: the calls that led here
  llvm::StringMap<mlir::Value> values;
  /// They become constants at the start of the block when they are first used.
  llvm::StringMap<const proto::TensorProto *> initializers;
  llvm::StringMap<const proto::SparseTensorProto *> sparseInitializers;
  /// What the file says of values.
  llvm::StringMap<const proto::TypeProto *> types;
  mlir::Operation *lastConstant = nullptr;
};

/// Writes the module of a file. Every name is checked when it is used.
class GraphImporter {
public:
  GraphImporter(mlir::MLIRContext &context, ONNXReader &reader,
                const FunctionTable &functions)
      : context(context), reader(reader), functions(functions),
        builder(&context) {}

  llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> run();

private:
  using Values = llvm::SmallVector<mlir::Value>;

  // Graphs.
  llvm::Error importInputs(const proto::GraphProto &graph,
                           mlir::func::FuncOp func, Scope &scope);
  llvm::Error importSubgraph(const proto::GraphProto &graph,
                             mlir::Region &region, Scope &outer);
  /// What a graph computes, at the end of the scope's block.
  llvm::Expected<Values> importBody(const proto::GraphProto &graph,
                                    Scope &scope);
  llvm::Error importNodes(const Nodes &nodes, Scope &scope);
  llvm::Error addNames(const proto::GraphProto &graph, Scope &scope);
  llvm::Error checkNew(llvm::StringRef name, const proto::GraphProto &graph,
                       const Scope &scope);

  // Nodes.
  llvm::Error importNode(const proto::NodeProto &node, Scope &scope);
  llvm::Error importConstant(const proto::NodeProto &node, Scope &scope);
  llvm::Error importCall(const proto::NodeProto &node, const Function &function,
                         Scope &scope);
  llvm::Error importBranch(const proto::NodeProto &node, bool condition,
                           Scope &scope);
  llvm::Error importOperator(const proto::NodeProto &node, Scope &scope);
  llvm::Expected<mlir::Attribute>
  convertAttribute(const proto::NodeProto &node,
                   const proto::AttributeProto &attribute);
  /// The value of the condition of an If, if that is known.
  llvm::Expected<std::optional<bool>> getCondition(const proto::NodeProto &node,
                                                   Scope &scope);

  // Values.
  /// The value of a name, null if there is none.
  llvm::Expected<mlir::Value> lookUp(llvm::StringRef name, Scope &scope);
  llvm::Expected<Values> lookUpInputs(const proto::NodeProto &node,
                                      Scope &scope);
  llvm::Error bindOutputs(const proto::NodeProto &node, mlir::ValueRange values,
                          Scope &scope);
  mlir::Type getDeclaredType(llvm::StringRef name, const Scope &scope);
  mlir::Operation *createConstant(mlir::Location location,
                                  mlir::ElementsAttr value);
  mlir::Value createNone(mlir::Location location);

  mlir::Location getLocation(llvm::StringRef name) {
    return mlir::NameLoc::get(builder.getStringAttr(name));
  }
  mlir::Location getLocation(const proto::NodeProto &node, const Scope &scope);
  template <typename... Ts>
  llvm::Error nodeError(const proto::NodeProto &node, const char *format,
                        Ts &&...arguments) {
    return inputError(describe(node), format, std::forward<Ts>(arguments)...);
  }
  std::string describe(const proto::NodeProto &node);

  mlir::MLIRContext &context;
  ONNXReader &reader;
  const FunctionTable &functions;
  mlir::OpBuilder builder;
  /// Subgraphs and calls around the node at hand, nodes so far, and bytes of
  /// the functions inlined: a small file can ask for any number of each.
  size_t depth = 0, numNodes = 0, inlinedBytes = 0;
};

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_GRAPHIMPORTER_H
