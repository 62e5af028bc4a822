// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each kind of node becomes.

#include "dialect/ONNX/ONNX.h"
#include "frontends/ONNX/GraphImporter.h"
#include "frontends/ONNX/TensorData.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::onnx;
using llvm::Error;
using llvm::Expected;
using llvm::formatv;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxNodes = 1'000'000;
constexpr size_t kMaxInlinedBytes = 1 << 30;

/// A node's name, which files may leave out.
static StringRef getName(const proto::NodeProto &node) {
  if (!node.name().empty())
    return node.name();
  for (const std::string &output : node.output())
    if (!output.empty())
      return output;
  return node.op_type();
}

std::string GraphImporter::describe(const proto::NodeProto &node) {
  return formatv("{0}: node '{1}' ({2})", reader.getPath(), getName(node),
                 node.op_type());
}

Location GraphImporter::getLocation(const proto::NodeProto &node,
                                    const Scope &scope) {
  return getLocation((scope.prefix + getName(node)).str());
}

Expected<SmallVector<Value>>
GraphImporter::lookUpInputs(const proto::NodeProto &node, Scope &scope) {
  Values values;
  for (const std::string &name : node.input()) {
    if (name.empty()) {
      values.push_back(createNone(getLocation(node, scope)));
      continue;
    }
    Expected<Value> value = lookUp(name, scope);
    if (!value)
      return value.takeError();
    if (!*value)
      return nodeError(node,
                       "its input '{0}' is no input, initializer or result of "
                       "a node; the model is damaged",
                       name);
    values.push_back(*value);
  }
  return values;
}

Error GraphImporter::bindOutputs(const proto::NodeProto &node,
                                 ValueRange values, Scope &scope) {
  for (auto [name, value] : llvm::zip(node.output(), values)) {
    if (name.empty())
      continue;
    if (scope.contains(name))
      return nodeError(node, "its output '{0}' is defined twice in its graph",
                       name);
    scope.values[name] = value;
  }
  return Error::success();
}

template <typename T>
static ArrayRef<T>
toArrayRef(const google::protobuf::RepeatedField<T> &elements) {
  return {elements.data(), size_t(elements.size())};
}

/// What operators, domains and attributes are called.
static bool isIdentifier(StringRef name) {
  return llvm::all_of(name, [](char c) {
    return llvm::isAlnum(c) || StringRef("_.-:").contains(c);
  });
}

Error GraphImporter::importNode(const proto::NodeProto &node, Scope &scope) {
  if (++numNodes > kMaxNodes)
    return nodeError(node,
                     "the model has more than {0} nodes once its functions are "
                     "inlined",
                     kMaxNodes);
  if (depth >= kMaxDepth)
    return nodeError(node,
                     "lies more than {0} subgraphs and calls of functions deep",
                     kMaxDepth);
  llvm::SaveAndRestore deeper(depth, depth + 1);
  if (node.op_type().empty() || !isIdentifier(node.op_type()) ||
      !isIdentifier(node.domain()))
    return nodeError(node, "'{0}' of domain '{1}' is no operator's name",
                     node.op_type(), node.domain());
  if (const Function *function = functions.find(node))
    return importCall(node, *function, scope);
  if (normalizeDomain(node.domain()).empty()) {
    if (node.op_type() == "Constant")
      return importConstant(node, scope);
    if (node.op_type() == "If") {
      Expected<std::optional<bool>> condition = getCondition(node, scope);
      if (!condition)
        return condition.takeError();
      if (*condition)
        return importBranch(node, **condition, scope);
    }
  }
  return importOperator(node, scope);
}

//===----------------------------------------------------------------------===//
// Constant
//===----------------------------------------------------------------------===//

template <typename T>
static ElementsAttr makeNumbers(Type type, ArrayRef<T> numbers,
                                ArrayRef<int64_t> shape) {
  return DenseElementsAttr::get(RankedTensorType::get(shape, type), numbers);
}

/// All forms of the value of a Constant are tensors.
Error GraphImporter::importConstant(const proto::NodeProto &node,
                                    Scope &scope) {
  if (node.attribute_size() != 1 || node.output_size() != 1)
    return nodeError(node, "must have one attribute and one output");
  const proto::AttributeProto &attribute = node.attribute(0);
  StringRef name = attribute.name();
  Type i64 = builder.getI64Type(), f32 = builder.getF32Type();
  ArrayRef<int64_t> ints = toArrayRef(attribute.ints());
  ArrayRef<float> floats = toArrayRef(attribute.floats());
  Expected<ElementsAttr> value = ElementsAttr();
  if (name == "value")
    value = convertTensor(&context, attribute.t(), reader);
  else if (name == "sparse_value")
    value = convertSparseTensor(&context, attribute.sparse_tensor(), reader);
  else if (name == "value_int")
    value = makeNumbers<int64_t>(i64, attribute.i(), {});
  else if (name == "value_float")
    value = makeNumbers<float>(f32, attribute.f(), {});
  else if (name == "value_ints")
    value = makeNumbers(i64, ints, ints.size());
  else if (name == "value_floats")
    value = makeNumbers(f32, floats, floats.size());
  else
    return nodeError(node, "its '{0}' is not supported: only numbers are",
                     name);
  if (!value)
    return value.takeError();
  return bindOutputs(
      node, createConstant(getLocation(node, scope), *value)->getResults(),
      scope);
}

//===----------------------------------------------------------------------===//
// Calls of functions
//===----------------------------------------------------------------------===//

Error GraphImporter::importCall(const proto::NodeProto &node,
                                const Function &function, Scope &scope) {
  const proto::FunctionProto &proto = *function.proto;
  if (node.input_size() > proto.input_size() ||
      node.output_size() > proto.output_size())
    return nodeError(node, "has more inputs or outputs than the function that "
                           "it calls");
  for (const proto::AttributeProto &attribute : node.attribute())
    if (attribute.has_g())
      return nodeError(node,
                       "passes graph '{0}' to a function, which is not "
                       "supported",
                       attribute.name());
  Expected<Values> inputs = lookUpInputs(node, scope);
  if (!inputs)
    return inputs.takeError();

  Scope body(scope.block, function.opsetVersions);
  body.prefix = scope.prefix + getName(node).str() + "/";
  inlinedBytes += proto.ByteSizeLong() + body.prefix.size() * proto.node_size();
  if (inlinedBytes > kMaxInlinedBytes)
    return nodeError(node,
                     "the functions inlined so far are larger than {0} bytes",
                     kMaxInlinedBytes);
  inputs->resize(proto.input_size());
  for (auto [name, value] : llvm::zip(proto.input(), *inputs)) {
    if (body.contains(name))
      return nodeError(node, "input '{0}' of its function is defined twice",
                       name);
    body.values[name] = value ? value : createNone(getLocation(node, scope));
  }
  if (Error error = importNodes(instantiate(function, node), body))
    return error;
  Values results;
  for (int i = 0; i < node.output_size(); ++i) {
    results.push_back(body.values.lookup(proto.output(i)));
    if (!results.back())
      return nodeError(node, "its function does not define its output '{0}'",
                       proto.output(i));
  }
  return bindOutputs(node, results, scope);
}

//===----------------------------------------------------------------------===//
// If
//===----------------------------------------------------------------------===//

Expected<std::optional<bool>>
GraphImporter::getCondition(const proto::NodeProto &node, Scope &scope) {
  if (node.input_size() != 1)
    return std::nullopt;
  Expected<Value> value = lookUp(node.input(0), scope);
  if (!value)
    return value.takeError();
  auto constant = dyn_cast_or_null<DenseElementsAttr>(
      *value ? getConstant(*value) : nullptr);
  if (!constant || !constant.getElementType().isInteger(1) ||
      constant.getNumElements() != 1)
    return std::nullopt;
  return constant.getSplatValue<bool>();
}

/// The branch of an If that is always taken, in place of the node.
Error GraphImporter::importBranch(const proto::NodeProto &node, bool condition,
                                  Scope &scope) {
  StringRef name = condition ? "then_branch" : "else_branch";
  auto branch = llvm::find_if(node.attribute(), [&](const auto &attribute) {
    return attribute.name() == name && attribute.has_g();
  });
  if (branch == node.attribute().end())
    return nodeError(node, "has no {0}", name);
  Scope body(scope.block, scope);
  if (Error error = addNames(branch->g(), body))
    return error;
  Expected<Values> results = importBody(branch->g(), body);
  if (!results)
    return results.takeError();
  if (results->size() < size_t(node.output_size()))
    return nodeError(node, "its {0} has {1} outputs; {2} are needed", name,
                     results->size(), node.output_size());
  return bindOutputs(node, *results, scope);
}

//===----------------------------------------------------------------------===//
// Other operators
//===----------------------------------------------------------------------===//

Expected<Attribute>
GraphImporter::convertAttribute(const proto::NodeProto &node,
                                const proto::AttributeProto &attribute) {
  switch (attribute.type()) {
  case proto::AttributeProto::INT:
    return builder.getI64IntegerAttr(attribute.i());
  case proto::AttributeProto::FLOAT:
    return builder.getF32FloatAttr(attribute.f());
  case proto::AttributeProto::STRING:
    return builder.getStringAttr(attribute.s());
  case proto::AttributeProto::INTS:
    return builder.getDenseI64ArrayAttr(toArrayRef(attribute.ints()));
  case proto::AttributeProto::FLOATS:
    return builder.getDenseF32ArrayAttr(toArrayRef(attribute.floats()));
  case proto::AttributeProto::STRINGS:
    return builder.getStrArrayAttr(SmallVector<StringRef>(
        attribute.strings().begin(), attribute.strings().end()));
  case proto::AttributeProto::TENSOR:
    return convertTensor(&context, attribute.t(), reader);
  default:
    return nodeError(
        node, "its attribute '{0}' is of a kind that is not supported ({1})",
        attribute.name(),
        proto::AttributeProto::AttributeType_Name(attribute.type()));
  }
}

Error GraphImporter::importOperator(const proto::NodeProto &node,
                                    Scope &scope) {
  StringRef domain = normalizeDomain(node.domain());
  auto version = scope.opsetVersions->find(domain);
  if (version == scope.opsetVersions->end())
    return nodeError(node,
                     "its domain '{0}' is not among those whose versions the "
                     "model names (opset_import)",
                     domain);
  Expected<Values> inputs = lookUpInputs(node, scope);
  if (!inputs)
    return inputs.takeError();

  std::string prefix =
      domain.empty() ? "onnx." : ("onnx." + domain + ".").str();
  OperationState state(getLocation(node, scope), prefix + node.op_type());
  state.addOperands(*inputs);
  state.addAttribute(kVersionAttr, builder.getI64IntegerAttr(version->second));
  SmallVector<StringRef> regions;
  for (const proto::AttributeProto &attribute : node.attribute()) {
    StringRef name = attribute.name();
    if (name.empty() || !isIdentifier(name) || state.attributes.get(name) ||
        llvm::is_contained(regions, name))
      return nodeError(node, "has attribute '{0}' twice, or that is no name",
                       name);
    if (attribute.type() == proto::AttributeProto::GRAPH) {
      regions.push_back(name);
      if (Error error =
              importSubgraph(attribute.g(), *state.addRegion(), scope))
        return error;
      continue;
    }
    Expected<Attribute> value = convertAttribute(node, attribute);
    if (!value)
      return value.takeError();
    state.addAttribute(name, *value);
  }
  if (!regions.empty())
    state.addAttribute(kRegionsAttr, builder.getStrArrayAttr(regions));

  int numOutputs = node.output_size();
  while (numOutputs > 0 && node.output(numOutputs - 1).empty())
    --numOutputs;
  for (int i = 0; i < numOutputs; ++i)
    state.addTypes(getDeclaredType(node.output(i), scope));
  return bindOutputs(node, builder.create(state)->getResults(), scope);
}
