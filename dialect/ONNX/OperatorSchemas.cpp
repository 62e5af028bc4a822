// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/ONNX/OperatorSchemas.h"
#include "dialect/ONNX/ONNX.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::onnx;

namespace {

struct OperatorSchema {
  StringLiteral name;
  int64_t since; ///< the first operator set that has it in this form
  unsigned minInputs, maxInputs, minOutputs, maxOutputs;
  /// "A:T B:T? sizes:80": each input with its type, a variable or a mask; `?`
  /// is optional, `*` any number of one type, `~` any number of any types.
  StringLiteral inputs;
  /// "T=c02": the masks of variables, bit n for TensorProto.DataType n.
  StringLiteral types;
  /// "axis:i mode:s!": each attribute with its kind; `!` is required.
  StringLiteral attributes;
};

/// Sorted by name and version.
constexpr OperatorSchema kSchemas[] = {
#include "dialect/ONNX/OperatorSchemas.inc"
// These are last, as small letters are.
#include "dialect/ONNX/MicrosoftSchemas.inc"
};

struct OperatorShapes {
  StringLiteral name;
  /// Of each input its rank, "2", "3+" or "2-3"; `=` is that of the first, `n`
  /// a tensor of one element, `l` a list of known length, `*` anything.
  StringLiteral inputs;
};

/// What ONNX says in words, or lowerings need: an `l`.
constexpr OperatorShapes kShapes[] = {
    {"AffineGrid", "3 l"},
    {"Attention", "3-4 3-4 3-4 * 4 4 1"},
    {"AveragePool", "3+"},
    {"BatchNormalization", "1+ 1 1 1 1"},
    {"BlackmanWindow", "n"},
    {"CausalConvWithState", "3 3 1 3"},
    {"CenterCropPad", "1+ l"},
    {"Col2Im", "3 l l"},
    {"Compress", "* 1"},
    {"ConstantOfShape", "l"},
    {"Conv", "3+ = 1"},
    {"ConvInteger", "3+ ="},
    {"ConvTranspose", "3+ = 1"},
    {"CumProd", "1+ n"},
    {"CumSum", "1+ n"},
    {"DFT", "2+ n n"},
    {"DeformConv", "3+ = = 1 ="},
    {"DepthToSpace", "4"},
    {"Det", "2+"},
    {"Dropout", "* n n"},
    {"Expand", "* l"},
    {"EyeLike", "2"},
    {"GRU", "3 3 3 2 1 3"},
    {"Gather", "1+"},
    {"GatherElements", "1+ ="},
    {"GatherND", "1+ 1+"},
    {"Gemm", "2 2 0-2"},
    {"GlobalAveragePool", "3+"},
    {"GlobalLpPool", "3+"},
    {"GlobalMaxPool", "3+"},
    {"GridSample", "3+ ="},
    {"GroupNormalization", "3+ 1 1"},
    {"HammingWindow", "n"},
    {"HannWindow", "n"},
    {"If", "n"},
    {"InstanceNormalization", "3+ 1 1"},
    {"LRN", "2+"},
    {"LSTM", "3 3 3 2 1 3 3 2"},
    {"LinearAttention", "3 3 3 4 3 3"},
    {"Loop", "n n"},
    {"LpPool", "3+"},
    {"MaxPool", "3+"},
    {"MaxUnpool", "3+ = l"},
    {"MelWeightMatrix", "n n n n n"},
    {"NegativeLogLikelihoodLoss", "2+ * 1"},
    {"NonMaxSuppression", "3 3 n n n"},
    {"OneHot", "* n l"},
    {"Pad", "* l n l"},
    {"QLinearConv", "3+ * * = * * * * 1"},
    {"RNN", "3 3 3 2 1 3"},
    {"Range", "n n n"},
    {"Reshape", "* l"},
    {"Resize", "1+ l l l"},
    {"ReverseSequence", "2+ 1"},
    {"RoiAlign", "4 2 1"},
    {"STFT", "3 n 1 n"},
    {"Scatter", "1+ = ="},
    {"ScatterElements", "1+ = ="},
    {"RotaryEmbedding", "3-4 2-3 2-3 2"},
    {"ScatterND", "1+ 1+"},
    {"Slice", "1+ l l l l"},
    {"SoftmaxCrossEntropyLoss", "2+ * 1"},
    {"SpaceToDepth", "4"},
    {"Split", "1+ l"},
    {"Squeeze", "* l"},
    {"TensorScatter", "2+ = 1"},
    {"Tile", "* l"},
    {"TopK", "1+ n"},
    {"Trilu", "2+ n"},
    {"Unsqueeze", "* l"},
    {"Upsample", "1+ l"},
    {"com.microsoft.DynamicQuantizeLSTM", "3 3 3 2 1 3 3 2 1-2 1-2 1-2 1-2"},
    {"com.microsoft.FusedMatMul", "1+ 1+"},
    {"com.microsoft.GroupQueryAttention", "3 3 3 4 4 1 n 2 2 2 4 1"},
    {"com.microsoft.MultiHeadAttention", "3-5 3-5 3-4 1 1-3 4 4 4"},
    {"com.microsoft.RotaryEmbedding", "3-4 1-2 2 2"},
    {"com.microsoft.SkipLayerNormalization", "1+ 1+ 1 1 1"},
    {"com.microsoft.SkipSimplifiedLayerNormalization", "1+ 1+ 1 1"},
};

struct AttributeValues {
  StringLiteral name; ///< of the operator; empty: of any
  StringLiteral attribute, values;
};

/// Strings that lowerings compare with some of.
constexpr AttributeValues kValues[] = {
    {"", "auto_pad", "NOTSET SAME_UPPER SAME_LOWER VALID"},
    {"BitShift", "direction", "LEFT RIGHT"},
    {"DepthToSpace", "mode", "DCR CRD"},
    {"Resize", "nearest_mode",
     "round_prefer_floor round_prefer_ceil floor ceil"},
    {"Gelu", "approximate", "none tanh"},
    {"GRU", "direction", "forward reverse bidirectional"},
    {"LSTM", "direction", "forward reverse bidirectional"},
    {"com.microsoft.DynamicQuantizeLSTM", "direction",
     "forward reverse bidirectional"},
    {"RNN", "direction", "forward reverse bidirectional"},
    {"Resize", "keep_aspect_ratio_policy", "stretch not_larger not_smaller"},
    {"SpaceToDepth", "mode", "DCR CRD"},
    {"TensorScatter", "mode", "linear circular"},
    {"RoiAlign", "coordinate_transformation_mode",
     "half_pixel output_half_pixel"},
};

struct Input {
  StringRef name, type;
  char option; ///< one of ?*~ or 0
};

} // namespace

InFlightDiagnostic onnx::emitNodeError(Operation *node) {
  return mlir::emitError(node->getLoc())
         << getOpName(node) << " (node '" << getNodeName(node) << "', opset "
         << getVersion(node) << "): ";
}

/// The newest form that the operator set of the node has; of an operator that
/// is newer the first one: exporters write some before they are standard.
/// Without a version nothing is known.
static const OperatorSchema *findSchema(Operation *node) {
  StringRef name = getOpName(node);
  int64_t version = getVersion(node);
  auto next = llvm::partition_point(
      kSchemas, [&](const auto &schema) { return schema.name < name; });
  const OperatorSchema *found = nullptr;
  if (version == 0)
    return nullptr;
  for (; next != std::end(kSchemas) && next->name == name; ++next)
    if (!found || next->since <= version)
      found = next;
  return found;
}

static SmallVector<StringRef> splitWords(StringRef text) {
  SmallVector<StringRef> words;
  text.split(words, ' ', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  return words;
}

static Input parseInput(StringRef text) {
  auto [name, type] = text.split(':');
  char option = StringRef("?*~").contains(type.back()) ? type.back() : 0;
  return {name, option ? type.drop_back() : type, option};
}

//===----------------------------------------------------------------------===//
// Numbers of operands and results
//===----------------------------------------------------------------------===//

static LogicalResult verifyCounts(Operation *node,
                                  const OperatorSchema &schema) {
  unsigned numInputs = node->getNumOperands();
  while (numInputs && isNone(node->getOperand(numInputs - 1)))
    --numInputs;
  if (numInputs < schema.minInputs)
    return emitNodeError(node) << "has " << numInputs << " inputs; at least "
                               << schema.minInputs << " are needed";
  if (numInputs > schema.maxInputs)
    return emitNodeError(node) << "has " << numInputs << " inputs; at most "
                               << schema.maxInputs << " are allowed";
  if (node->getNumResults() > schema.maxOutputs)
    return emitNodeError(node)
           << "has " << node->getNumResults() << " outputs; at most "
           << schema.maxOutputs << " are allowed";
  SmallVector<StringRef> inputs = splitWords(schema.inputs);
  for (unsigned i = 0; i < numInputs; ++i) {
    Input input = parseInput(inputs[std::min<size_t>(i, inputs.size() - 1)]);
    if (isNone(node->getOperand(i)) && input.option != '?')
      return emitNodeError(node) << "input '" << input.name << "' is missing";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

static char getKind(Attribute attribute) {
  return llvm::TypeSwitch<Attribute, char>(attribute)
      .Case([](IntegerAttr) { return 'i'; })
      .Case([](FloatAttr) { return 'f'; })
      .Case([](StringAttr) { return 's'; })
      .Case([](DenseI64ArrayAttr) { return 'I'; })
      .Case([](DenseF32ArrayAttr) { return 'F'; })
      .Case([](ArrayAttr) { return 'S'; })
      .Case([](ElementsAttr) { return 't'; })
      .Default('?');
}

static StringRef explainKind(char kind) {
  switch (kind) {
  case 'i':
    return "an integer";
  case 'f':
    return "a float";
  case 's':
    return "a string";
  case 'I':
    return "a list of integers";
  case 'F':
    return "a list of floats";
  case 'S':
    return "a list of strings";
  case 't':
    return "a tensor";
  case 'g':
    return "a graph";
  default:
    return "something else";
  }
}

static LogicalResult verifyAttributes(Operation *node,
                                      const OperatorSchema &schema) {
  llvm::StringMap<char> kinds;
  for (NamedAttribute attribute : node->getAttrs())
    if (StringRef name = attribute.getName(); !name.starts_with("onnx."))
      kinds[name] = getKind(attribute.getValue());
  if (auto names = node->getAttrOfType<ArrayAttr>(kRegionsAttr))
    for (auto name : names.getAsRange<StringAttr>())
      kinds[name] = 'g';

  for (StringRef text : splitWords(schema.attributes)) {
    auto [name, kind] = text.split(':');
    auto given = kinds.find(name);
    if (given == kinds.end()) {
      if (kind.ends_with("!"))
        return emitNodeError(node) << "attribute '" << name << "' is missing";
      continue;
    }
    if (given->second != kind.front())
      return emitNodeError(node)
             << "attribute '" << name << "' is " << explainKind(given->second)
             << "; it has to be " << explainKind(kind.front());
    kinds.erase(given);
  }
  if (kinds.empty())
    return success();
  return emitNodeError(node) << "has attribute '" << kinds.begin()->first()
                             << "', which the operator does not have";
}

static LogicalResult verifyValues(Operation *node) {
  for (const AttributeValues &row : kValues) {
    auto value = node->getAttrOfType<StringAttr>(row.attribute);
    if (!value || !(row.name.empty() || row.name == getOpName(node)))
      continue;
    SmallVector<StringRef> allowed = splitWords(row.values);
    if (!llvm::is_contained(allowed, value.getValue()))
      return emitNodeError(node)
             << "attribute '" << row.attribute << "' is '" << value.getValue()
             << "'; it has to be " << llvm::join(allowed, " or ");
  }
  return success();
}

LogicalResult onnx::verifyNode(Operation *node) {
  const OperatorSchema *schema = findSchema(node);
  return success(!schema || (succeeded(verifyCounts(node, *schema)) &&
                             succeeded(verifyAttributes(node, *schema)) &&
                             succeeded(verifyValues(node))));
}

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

static std::string printType(Type type) {
  return type.isInteger(1) ? "bool" : llvm::formatv("{0}", type).str();
}

static SmallVector<Type> getTypes(Operation *node, const OperatorSchema &schema,
                                  StringRef type) {
  StringRef digits = type;
  for (StringRef variable : splitWords(schema.types))
    if (auto [name, mask] = variable.split('='); name == type)
      digits = mask;
  uint32_t mask = 0;
  (void)digits.getAsInteger(16, mask); // the table has only numbers
  SmallVector<Type> types;
  for (int number : llvm::seq(32))
    if (Type type = mask >> number & 1
                        ? getElementType(node->getContext(), number)
                        : Type())
      types.push_back(type);
  return types;
}

static LogicalResult verifyTypes(Operation *node, const OperatorSchema &schema,
                                 ArrayRef<RankedTensorType> operands) {
  // What variables stand for, and the first input that tells.
  llvm::StringMap<std::pair<Type, StringRef>> bound;
  SmallVector<StringRef> inputs = splitWords(schema.inputs);
  for (auto [i, operand] : llvm::enumerate(operands)) {
    if (!operand)
      continue;
    Input input = parseInput(inputs[std::min(i, inputs.size() - 1)]);
    Type element = operand.getElementType();
    SmallVector<Type> allowed = getTypes(node, schema, input.type);
    if (!llvm::is_contained(allowed, element))
      return emitNodeError(node)
             << "input '" << input.name << "' is of type " << printType(element)
             << "; it has to be "
             << llvm::join(llvm::map_range(allowed, printType), " or ");
    if (input.option == '~')
      continue;
    auto [first, isNew] =
        bound.try_emplace(input.type, std::pair(element, input.name));
    if (!isNew && first->second.first != element)
      return emitNodeError(node)
             << "input '" << input.name << "' is of type " << printType(element)
             << ", but '" << first->second.second << "' of "
             << printType(first->second.first)
             << "; both have to be of one type";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Ranks
//===----------------------------------------------------------------------===//

/// What a shape is not; empty if it is as `wanted` says.
static std::string findMisfit(RankedTensorType type, StringRef wanted,
                              int64_t firstRank) {
  int64_t rank = type.getRank(), least = firstRank, most = firstRank;
  if (wanted == "*")
    return "";
  if (wanted == "n")
    return type.hasStaticShape() && type.getNumElements() == 1
               ? ""
               : "have one element";
  if (wanted == "l")
    return type.hasStaticShape() && rank <= 1 ? ""
                                              : "be a list of known length";
  if (wanted != "=") {
    wanted.consumeInteger(10, least);
    most = wanted == "+" ? std::numeric_limits<int64_t>::max() : least;
    if (wanted.consume_front("-"))
      wanted.consumeInteger(10, most);
  }
  if (rank >= least && rank <= most)
    return "";
  return llvm::formatv("have rank {0}{1}", least,
                       most == least   ? ""
                       : wanted == "+" ? " or more"
                                       : llvm::formatv(" to {0}", most).str());
}

static LogicalResult verifyShapes(Operation *node, const OperatorSchema &schema,
                                  ArrayRef<RankedTensorType> operands) {
  const OperatorShapes *shapes = llvm::find_if(
      kShapes, [&](const auto &row) { return row.name == schema.name; });
  if (shapes == std::end(kShapes))
    return success();
  SmallVector<StringRef> inputs = splitWords(schema.inputs);
  for (auto [operand, input, wanted] :
       llvm::zip(operands, inputs, splitWords(shapes->inputs))) {
    if (!operand)
      continue;
    std::string misfit =
        findMisfit(operand, wanted, operands.front().getRank());
    if (!misfit.empty())
      return emitNodeError(node)
             << "input '" << parseInput(input).name << "' is a " << operand
             << "; it has to " << misfit;
  }
  return success();
}

LogicalResult onnx::verifyOperands(Operation *node,
                                   ArrayRef<RankedTensorType> types) {
  const OperatorSchema *schema = findSchema(node);
  return success(!schema || (succeeded(verifyTypes(node, *schema, types)) &&
                             succeeded(verifyShapes(node, *schema, types))));
}
