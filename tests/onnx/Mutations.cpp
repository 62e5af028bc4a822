// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/onnx/Mutations.h"
#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::test;
using llvm::formatv;

/// Nodes of a graph that are changed.
constexpr size_t kMaxNodes = 6;

namespace {

/// The changes of one node, numbered; `run` makes one of them.
class Mutator {
public:
  Mutator(ModuleOp module, Operation *node, unsigned number)
      : module(module), node(node), b(node), wanted(number) {}

  /// What has been changed; empty if there are no more changes.
  std::string run() {
    for (unsigned i = 0; i < node->getNumOperands() && name.empty(); ++i)
      if (!onnx::isNone(node->getOperand(i)))
        changeOperand(i);
    for (NamedAttribute attribute : llvm::to_vector(node->getAttrs()))
      if (name.empty() && !attribute.getName().strref().starts_with("onnx."))
        changeAttribute(attribute.getName(), attribute.getValue());
    if (node->getNumOperands() && isNext("without its last input"))
      node->eraseOperand(node->getNumOperands() - 1);
    if (node->getNumOperands() && isNext("with one more input"))
      node->insertOperands(node->getNumOperands(), node->getOperand(0));
    if (isNext("with another attribute"))
      node->setAttr("no_such_attribute", b.getI64IntegerAttr(1));
    return name;
  }

private:
  /// Whether the next change is the one to make.
  bool isNext(const Twine &what) {
    if (next++ != wanted)
      return false;
    name = what.str();
    return true;
  }

  void changeOperand(unsigned index);
  void changeAttribute(StringAttr attribute, Attribute value);
  void setType(unsigned index, Value operand, RankedTensorType type);
  void castOperand(unsigned index, int64_t dataType);

  ModuleOp module;
  Operation *node;
  OpBuilder b;
  unsigned wanted, next = 0;
  std::string name;
};

} // namespace

/// The operand as a tensor of another type: as an input of the graph, or a
/// constant of ones.
void Mutator::setType(unsigned index, Value operand, RankedTensorType type) {
  if (auto argument = dyn_cast<BlockArgument>(operand)) {
    argument.setType(type);
    auto graph = module.lookupSymbol<func::FuncOp>(onnx::kGraphName);
    unsigned number = argument.getArgNumber();
    graph.removeArgAttr(number, onnx::kDimsAttr);
    graph.setArgAttr(number, onnx::kTypeAttr, TypeAttr::get(type));
    graph.setType(b.getFunctionType(graph.getBody().getArgumentTypes(),
                                    graph.getResultTypes()));
    return;
  }
  Type element = type.getElementType();
  Attribute one = isa<FloatType>(element)
                      ? Attribute(b.getFloatAttr(element, 1))
                      : b.getIntegerAttr(element, 1);
  node->setOperand(index,
                   onnx::createConstant(b, node->getLoc(),
                                        DenseElementsAttr::get(type, one)));
}

void Mutator::castOperand(unsigned index, int64_t dataType) {
  OperationState state(
      node->getLoc(), "onnx.Cast", node->getOperand(index),
      onnx::UnknownType::get(b.getContext()),
      {b.getNamedAttr("to", b.getI64IntegerAttr(dataType)),
       b.getNamedAttr(onnx::kVersionAttr, b.getI64IntegerAttr(13))});
  node->setOperand(index, b.create(state)->getResult(0));
}

void Mutator::changeOperand(unsigned index) {
  Value operand = node->getOperand(index);
  std::string input = formatv("input {0} ", index);
  for (int64_t dataType : {1, 2, 6, 7, 9, 10}) // f32 ui8 i32 i64 bool f16
    if (isNext(formatv("{0}of data type {1}", input, dataType)))
      return castOperand(index, dataType);

  auto type = dyn_cast<RankedTensorType>(operand.getType());
  bool isArgument = isa<BlockArgument>(operand) &&
                    isa<func::FuncOp>(operand.getParentBlock()->getParentOp());
  ElementsAttr constant = onnx::getConstant(operand);
  if (!type || (!isArgument && !constant))
    return;
  SmallVector<SmallVector<int64_t>> shapes = {
      {}, llvm::to_vector(type.getShape()), llvm::to_vector(type.getShape())};
  shapes[1].insert(shapes[1].begin(), 2);
  shapes[2].append({1, 1, 1});
  if (type.getRank() > 0) {
    for (int64_t size : {int64_t(0), int64_t(7), ShapedType::kDynamic}) {
      shapes.push_back(llvm::to_vector(type.getShape()));
      shapes.back().front() = size;
      shapes.push_back(llvm::to_vector(type.getShape()));
      shapes.back().back() = size;
    }
    shapes.push_back(llvm::to_vector(type.getShape().drop_front()));
    shapes.push_back(
        SmallVector<int64_t>(type.getRank(), ShapedType::kDynamic));
  }
  for (ArrayRef<int64_t> shape : shapes)
    if (auto other = type.clone(shape);
        (isArgument || other.hasStaticShape()) &&
        isNext(formatv("{0}of type {1}", input, other)))
      return setType(index, operand, other);
  if (!isa<IntegerType>(type.getElementType()) || !constant)
    return;
  for (int64_t value : {-1, 0, 99})
    if (isNext(formatv("{0}all {1}", input, value))) {
      Attribute all = b.getIntegerAttr(type.getElementType(), value);
      node->setOperand(index,
                       onnx::createConstant(b, node->getLoc(),
                                            DenseElementsAttr::get(type, all)));
      return;
    }
}

void Mutator::changeAttribute(StringAttr attribute, Attribute value) {
  auto tryValue = [&](const Twine &what, Attribute changed) {
    if (name.empty() && isNext(attribute.getValue() + " " + what))
      node->setAttr(attribute, changed);
  };
  if (isa<IntegerAttr>(value))
    for (int64_t number : {int64_t(-1), int64_t(0), int64_t(3), int64_t(99),
                           std::numeric_limits<int64_t>::min(),
                           std::numeric_limits<int64_t>::max()})
      tryValue(Twine(number), b.getI64IntegerAttr(number));
  if (auto ints = dyn_cast<DenseI64ArrayAttr>(value)) {
    SmallVector<int64_t> numbers(ints.asArrayRef());
    for (int64_t number :
         {int64_t(-1), int64_t(0), int64_t(99), int64_t(1) << 40}) {
      SmallVector<int64_t> all(numbers.size(), number);
      tryValue(formatv("all {0}", number), b.getDenseI64ArrayAttr(all));
    }
    numbers.push_back(1);
    tryValue("longer", b.getDenseI64ArrayAttr(numbers));
    tryValue("shorter", b.getDenseI64ArrayAttr(ArrayRef(numbers).drop_back(
                            std::min<size_t>(2, numbers.size()))));
    tryValue("empty", b.getDenseI64ArrayAttr({}));
  }
  if (isa<FloatAttr>(value))
    for (float number : {-1.0f, 0.0f, 1e30f})
      tryValue(formatv("{0}", number), b.getF32FloatAttr(number));
  if (isa<StringAttr>(value))
    tryValue("nonsense", b.getStringAttr("nonsense"));
  if (isa<StringAttr>(value))
    tryValue("a number", b.getI64IntegerAttr(1));
  else
    tryValue("a string", b.getStringAttr("text"));
  if (name.empty() && isNext(attribute.getValue() + " missing"))
    node->removeAttr(attribute);
}

static SmallVector<Operation *> findNodes(ModuleOp module) {
  SmallVector<Operation *> nodes;
  module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    StringRef name = op->getName().getStringRef();
    if (name.starts_with("onnx.") && name != onnx::kConstantOp &&
        name != onnx::kNoneOp && name != onnx::kYieldOp &&
        nodes.size() < kMaxNodes)
      nodes.push_back(op);
  });
  return nodes;
}

/// Whether a message is one of ours: it names a node, or what of the graph.
static bool isOurs(StringRef message) {
  static llvm::Regex ours("^phase '(import|recognise|lower-onnx)': "
                          "([A-Za-z0-9_.]+ \\(node '.*', opset [0-9]+\\): |"
                          "(input|output) '.*' has ).+");
  return ours.match(message) &&
         !llvm::Regex("'[a-z]+\\.[a-z_.]+' op").match(message);
}

llvm::Error tercet::test::runMutations(ModuleOp graph,
                                       const CompileOptions &options,
                                       StringRef only) {
  std::string wrong;
  size_t numNodes = findNodes(graph).size();
  for (size_t i = 0; i < numNodes; ++i)
    for (unsigned number = 0;; ++number) {
      OwningOpRef<ModuleOp> module = graph.clone();
      Operation *node = findNodes(*module)[i];
      std::string operation = onnx::getOpName(node).str();
      std::string name = Mutator(*module, node, number).run();
      if (name.empty())
        break;
      name = operation + ": " + name;
      if (!StringRef(name).contains(only))
        continue;
      if (!only.empty())
        llvm::errs() << name << "\n";
      llvm::CrashRecoveryContext::Enable();
      std::string message;
      bool returned = llvm::CrashRecoveryContext().RunSafely([&] {
        ParameterReader reader;
        auto model = runPipeline(std::move(module), options, reader);
        if (!model)
          message = toString(model.takeError());
      });
      if (!returned) // and what is left of the context is not fit for more
        return llvm::createStringError(wrong + name + ": crashed");
      if (message.empty()) {
        if (StringRef(name).ends_with("nonsense"))
          wrong += name + ": accepted; ";
        continue;
      }
      if (!only.empty())
        llvm::errs() << "  " << message << "\n";
      if (!isOurs(message))
        wrong +=
            formatv("{0}{1}: {2}", wrong.empty() ? "" : "; ", name, message);
    }
  return wrong.empty() ? llvm::Error::success()
                       : llvm::createStringError(wrong);
}
