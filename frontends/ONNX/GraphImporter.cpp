// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/GraphImporter.h"
#include "dialect/ONNX/ONNX.h"
#include "frontends/ONNX/SortNodes.h"
#include "frontends/ONNX/TensorData.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::onnx;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

Operation *GraphImporter::createConstant(Location location,
                                         ElementsAttr value) {
  OperationState state(location, kConstantOp);
  state.addTypes(value.getType());
  state.addAttribute("value", value);
  return builder.create(state);
}

Value GraphImporter::createNone(Location location) {
  OperationState state(location, kNoneOp);
  state.addTypes(builder.getNoneType());
  return builder.create(state)->getResult(0);
}

Expected<Value> GraphImporter::lookUp(StringRef name, Scope &scope) {
  if (Value value = scope.values.lookup(name))
    return value;
  const auto *tensor = scope.initializers.lookup(name);
  const auto *sparse = scope.sparseInitializers.lookup(name);
  if (!tensor && !sparse)
    return scope.outer ? lookUp(name, *scope.outer) : Value();
  Expected<ElementsAttr> attribute =
      tensor ? convertTensor(&context, *tensor, reader)
             : convertSparseTensor(&context, *sparse, reader);
  if (!attribute)
    return attribute.takeError();
  OpBuilder::InsertionGuard guard(builder);
  if (scope.lastConstant)
    builder.setInsertionPointAfter(scope.lastConstant);
  else
    builder.setInsertionPointToStart(scope.block);
  scope.lastConstant = createConstant(getLocation(name), *attribute);
  return scope.values[name] = scope.lastConstant->getResult(0);
}

Type GraphImporter::getDeclaredType(StringRef name, const Scope &scope) {
  const proto::TypeProto *type = scope.types.lookup(name);
  return type ? getValueType(&context, *type) : UnknownType::get(&context);
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

Error GraphImporter::checkNew(StringRef name, const proto::GraphProto &graph,
                              const Scope &scope) {
  if (!scope.contains(name))
    return Error::success();
  return inputError(reader.getPath(),
                    "value '{0}' of graph '{1}' is defined twice", name,
                    graph.name());
}

Error GraphImporter::addNames(const proto::GraphProto &graph, Scope &scope) {
  for (const proto::TensorProto &tensor : graph.initializer()) {
    if (Error error = checkNew(tensor.name(), graph, scope))
      return error;
    scope.initializers[tensor.name()] = &tensor;
  }
  for (const proto::SparseTensorProto &tensor : graph.sparse_initializer()) {
    if (Error error = checkNew(tensor.values().name(), graph, scope))
      return error;
    scope.sparseInitializers[tensor.values().name()] = &tensor;
  }
  for (const proto::ValueInfoProto &value : graph.value_info())
    scope.types[value.name()] = &value.type();
  for (const proto::ValueInfoProto &value : graph.output())
    scope.types[value.name()] = &value.type();
  return Error::success();
}

Error GraphImporter::importNodes(const Nodes &nodes, Scope &scope) {
  SmallVector<unsigned> order = sortNodes(nodes);
  if (order.size() != size_t(nodes.size())) {
    llvm::BitVector sorted(nodes.size());
    for (unsigned index : order)
      sorted.set(index);
    return nodeError(nodes[sorted.find_first_unset()],
                     "depends on its own result: nodes must not form a cycle");
  }
  for (unsigned index : order)
    if (Error error = importNode(nodes[index], scope))
      return error;
  return Error::success();
}

Expected<SmallVector<Value>>
GraphImporter::importBody(const proto::GraphProto &graph, Scope &scope) {
  if (Error error = importNodes(graph.node(), scope))
    return std::move(error);
  Values results;
  for (const proto::ValueInfoProto &output : graph.output()) {
    Expected<Value> value = lookUp(output.name(), scope);
    if (!value)
      return value.takeError();
    if (!*value)
      return inputError(reader.getPath(),
                        "output '{0}' of graph '{1}' is no input, initializer "
                        "or result of a node; the model is damaged",
                        output.name(), graph.name());
    results.push_back(*value);
  }
  return results;
}

Error GraphImporter::importSubgraph(const proto::GraphProto &graph,
                                    Region &region, Scope &outer) {
  OpBuilder::InsertionGuard guard(builder);
  Block *block = builder.createBlock(&region);
  Scope scope(block, outer);
  if (Error error = addNames(graph, scope))
    return error;
  for (const proto::ValueInfoProto &input : graph.input()) {
    if (Error error = checkNew(input.name(), graph, scope))
      return error;
    scope.values[input.name()] = block->addArgument(
        getValueType(&context, input.type()), getLocation(input.name()));
  }
  Expected<Values> results = importBody(graph, scope);
  if (!results)
    return results.takeError();
  OperationState state(builder.getUnknownLoc(), kYieldOp);
  state.addOperands(*results);
  builder.create(state);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The module
//===----------------------------------------------------------------------===//

/// A size, a name, or "" if it is unknown: some exporters name all dimensions
/// of which they know nothing "?".
static std::string getDim(const proto::TensorShapeProto::Dimension &dim) {
  if (dim.has_dim_value())
    return dim.dim_value() < 0 ? "" : std::to_string(dim.dim_value());
  StringRef name = dim.dim_param();
  return llvm::any_of(name, llvm::isAlpha) ? name.str() : "";
}

/// ["batch", "784"]
static ArrayAttr getDims(Builder &builder, const proto::TypeProto &type) {
  SmallVector<Attribute> dims;
  for (const auto &dim : type.tensor_type().shape().dim())
    dims.push_back(builder.getStringAttr(getDim(dim)));
  return builder.getArrayAttr(dims);
}

/// Why a value cannot be an input or output of the graph.
static std::string explainUnsupported(MLIRContext *context,
                                      const proto::TypeProto &type) {
  if (!type.has_tensor_type())
    return "is no tensor; only tensors are supported";
  int32_t dataType = type.tensor_type().elem_type();
  if (!getElementType(context, dataType))
    return formatv("has elements of {0}, which are not supported",
                   printDataType(dataType));
  if (!type.tensor_type().has_shape())
    return "has no shape; export the model with shapes, whose dimensions may "
           "be symbolic";
  return "has a shape that no tensor can have: its size overflows 64 bits";
}

Error GraphImporter::importInputs(const proto::GraphProto &graph,
                                  func::FuncOp func, Scope &scope) {
  for (const proto::ValueInfoProto &input : graph.input()) {
    if (scope.initializers.contains(input.name()) ||
        scope.sparseInitializers.contains(input.name()))
      continue; // a constant: IR version 3 lists all initializers
    std::string where =
        formatv("{0}: input '{1}'", reader.getPath(), input.name()).str();
    if (scope.values.contains(input.name()))
      return inputError(where, "is listed twice");
    Type type = getValueType(&context, input.type());
    if (!isa<RankedTensorType>(type))
      return inputError(where, "{0}",
                        explainUnsupported(&context, input.type()));
    unsigned index = func.getNumArguments();
    DictionaryAttr attributes = builder.getDictionaryAttr(
        {builder.getNamedAttr(kNameAttr, builder.getStringAttr(input.name())),
         builder.getNamedAttr(kDimsAttr, getDims(builder, input.type())),
         builder.getNamedAttr(kTypeAttr, TypeAttr::get(type))});
    if (failed(func.insertArgument(index, type, attributes,
                                   getLocation(input.name()))))
      llvm_unreachable("@graph takes arguments");
    scope.values[input.name()] = func.getArgument(index);
  }
  return Error::success();
}

Expected<OwningOpRef<ModuleOp>> GraphImporter::run() {
  const proto::GraphProto &graph = reader.getModel().graph();
  for (const proto::ValueInfoProto &output : graph.output())
    if (output.type().value_case() &&
        !getElementType(&context, output.type().tensor_type().elem_type()))
      return inputError(reader.getPath(), "output '{0}' {1}", output.name(),
                        explainUnsupported(&context, output.type()));

  OwningOpRef<ModuleOp> module = ModuleOp::create(builder.getUnknownLoc());
  (*module)->setAttr(kIRVersionAttr,
                     builder.getI64IntegerAttr(reader.getModel().ir_version()));
  builder.setInsertionPointToEnd(module->getBody());
  auto func = func::FuncOp::create(builder, builder.getUnknownLoc(), kGraphName,
                                   builder.getFunctionType({}, {}));
  Scope scope(func.addEntryBlock(), reader.getOpsetVersions());
  builder.setInsertionPointToEnd(scope.block);
  if (Error error = addNames(graph, scope))
    return std::move(error);
  if (Error error = importInputs(graph, func, scope))
    return std::move(error);
  Expected<Values> results = importBody(graph, scope);
  if (!results)
    return results.takeError();
  func::ReturnOp::create(builder, func.getLoc(), *results);
  func.setType(builder.getFunctionType(func.getArgumentTypes(),
                                       TypeRange(ValueRange(*results))));
  for (auto [index, output] : llvm::enumerate(graph.output())) {
    func.setResultAttr(index, kNameAttr, builder.getStringAttr(output.name()));
    if (output.type().tensor_type().has_shape())
      func.setResultAttr(index, kDimsAttr, getDims(builder, output.type()));
  }
  return module;
}
