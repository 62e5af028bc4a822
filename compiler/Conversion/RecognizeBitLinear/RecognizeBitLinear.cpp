// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h"
#include "compiler/Conversion/RecognizeBitLinear/MatchActivation.h"
#include "compiler/Conversion/RecognizeBitLinear/TernaryMatrix.h"
#include "dialect/ONNX/ONNX.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <numeric>

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_RECOGNIZEBITLINEAR
#include "compiler/Conversion/RecognizeBitLinear/RecognizeBitLinear.h.inc"

namespace {

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// Elements of a constant of f32 or of 8 bits, as f32.
std::optional<std::vector<float>> readFloats(ElementsAttr constant) {
  Type type = constant.getElementType();
  bool isF32 = type.isF32();
  if (!isF32 && !type.isInteger(8))
    return std::nullopt;
  ArrayRef<char> bytes;
  int64_t stride = 1;
  if (auto dense = dyn_cast<DenseElementsAttr>(constant)) {
    bytes = dense.getRawData();
    stride = dense.isSplat() ? 0 : 1;
  } else if (auto resource = dyn_cast<DenseResourceElementsAttr>(constant)) {
    bytes = resource.getData();
  } else {
    return std::nullopt;
  }
  std::vector<float> values(constant.getNumElements());
  for (auto [i, value] : llvm::enumerate(values)) {
    const char *element =
        bytes.data() + i * stride * (isF32 ? sizeof(float) : 1);
    if (isF32)
      memcpy(&value, element, sizeof(float));
    else
      value = type.isUnsignedInteger() ? uint8_t(*element) : int8_t(*element);
  }
  return values;
}

/// A constant matrix.
std::optional<FloatMatrix> readMatrix(Value value) {
  ElementsAttr constant = onnx::getConstant(value);
  if (!constant || constant.getShapedType().getRank() != 2)
    return std::nullopt;
  std::optional<std::vector<float>> values = readFloats(constant);
  if (!values || values->empty())
    return std::nullopt;
  ArrayRef<int64_t> shape = constant.getShapedType().getShape();
  return FloatMatrix{shape[0], shape[1], std::move(*values)};
}

/// A product of activations with constant weights.
struct Product {
  /// [out, in]; of a convolution in is the window and then the channels.
  FloatMatrix weights;
  float factor = 1;
  /// What is added, times `biasFactor`; may be null.
  Value bias = {};
  float biasFactor = 1;
  SummedAxes summedAxes = {{-1}, 0};
  /// Of a convolution.
  SmallVector<int64_t> window = {};
  /// Whether activations have no zero point, or 0.
  bool isSymmetric = true;

  bool isConvolution() const { return summedAxes.rank != 0; }
};

Value getOperand(Operation *op, unsigned i) {
  if (i >= op->getNumOperands() || onnx::isNone(op->getOperand(i)))
    return {};
  return op->getOperand(i);
}

std::optional<Product> matchMatMul(Operation *op) {
  std::optional<FloatMatrix> weights = readMatrix(op->getOperand(1));
  if (!weights)
    return std::nullopt;
  return Product{weights->transposed()};
}

std::optional<Product> matchGemm(Operation *op) {
  std::optional<FloatMatrix> weights = readMatrix(op->getOperand(1));
  if (!weights || onnx::getInt(op, "transA", 0))
    return std::nullopt;
  return Product{onnx::getInt(op, "transB", 0) ? std::move(*weights)
                                               : weights->transposed(),
                 onnx::getFloat(op, "alpha", 1), getOperand(op, 2),
                 onnx::getFloat(op, "beta", 1)};
}

std::optional<Product> matchMatMulInteger(Operation *op) {
  std::optional<FloatMatrix> weights = readMatrix(op->getOperand(1));
  if (!weights)
    return std::nullopt;
  bool isSymmetric = true;
  if (Value zero = getOperand(op, 2)) {
    ElementsAttr constant = onnx::getConstant(zero);
    auto values = constant ? readFloats(constant) : std::nullopt;
    isSymmetric =
        values && llvm::all_of(*values, [](float v) { return v == 0; });
  }
  if (Value zero = getOperand(op, 3)) {
    ElementsAttr constant = onnx::getConstant(zero);
    auto zeros = constant ? readFloats(constant) : std::nullopt;
    if (!zeros ||
        (zeros->size() != 1 && int64_t(zeros->size()) != weights->columns))
      return std::nullopt;
    for (auto [i, value] : llvm::enumerate(weights->values))
      value -= (*zeros)[zeros->size() == 1 ? 0 : i % weights->columns];
  }
  Product product{weights->transposed()};
  product.isSymmetric = isSymmetric;
  return product;
}

/// Codes of `bits` bits, low bits first.
uint8_t getCode(ArrayRef<float> bytes, int64_t index, int64_t bits) {
  int64_t bit = index * bits;
  return uint8_t(bytes[bit / 8]) >> (bit % 8) & ((1 << bits) - 1);
}

/// com.microsoft.MatMulNBits: B is [N, blocks, bytes of a block], scales
/// [N, blocks], zero points those codes in rows of whole bytes, or floats.
std::optional<Product> matchMatMulNBits(Operation *op) {
  int64_t rows = onnx::getInt(op, "N", 0), columns = onnx::getInt(op, "K", 0);
  int64_t bits = onnx::getInt(op, "bits", 4);
  int64_t blockSize = onnx::getInt(op, "block_size", 0);
  if (rows <= 0 || columns <= 0 || blockSize <= 0 || getOperand(op, 4) ||
      (bits != 2 && bits != 4 && bits != 8) || blockSize * bits % 8)
    return std::nullopt;
  auto read = [&](unsigned i) -> std::optional<std::vector<float>> {
    Value operand = getOperand(op, i);
    ElementsAttr constant = operand ? onnx::getConstant(operand) : nullptr;
    return constant ? readFloats(constant) : std::nullopt;
  };
  int64_t numBlocks = llvm::divideCeil(columns, blockSize);
  int64_t zerosPerRow = llvm::divideCeil(numBlocks * bits, 8);
  std::optional<std::vector<float>> codes = read(1), scales = read(2);
  if (!codes || !scales ||
      int64_t(codes->size()) != rows * numBlocks * (blockSize * bits / 8) ||
      int64_t(scales->size()) != rows * numBlocks)
    return std::nullopt;
  std::optional<std::vector<float>> zeros = read(3);
  bool areFloats = zeros && getElementTypeOrSelf(getOperand(op, 3)).isF32();
  if (getOperand(op, 3) &&
      (!zeros ||
       int64_t(zeros->size()) != rows * (areFloats ? numBlocks : zerosPerRow)))
    return std::nullopt;

  Product product{FloatMatrix{rows, columns, {}}, 1, getOperand(op, 5)};
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      int64_t block = column / blockSize;
      float zero = 1 << (bits - 1);
      if (areFloats)
        zero = (*zeros)[row * numBlocks + block];
      else if (zeros)
        zero = getCode(ArrayRef(*zeros).slice(row * zerosPerRow), block, bits);
      uint8_t code =
          getCode(*codes, (row * numBlocks) * blockSize + column, bits);
      product.weights.values.push_back((code - zero) *
                                       (*scales)[row * numBlocks + block]);
    }
  return product;
}

/// Weights [M, C, ..], of one group.
std::optional<Product> matchConv(Operation *op) {
  ElementsAttr constant = onnx::getConstant(op->getOperand(1));
  if (!constant || !constant.getElementType().isF32() ||
      onnx::getInt(op, "group", 1) != 1)
    return std::nullopt;
  ArrayRef<int64_t> shape = constant.getShapedType().getShape();
  std::optional<std::vector<float>> values = readFloats(constant);
  if (shape.size() < 3 || !values || values->empty())
    return std::nullopt;
  int64_t size = values->size() / shape[0], window = size / shape[1];
  Product product{FloatMatrix{shape[0], size, {}}, 1, getOperand(op, 2)};
  for (int64_t row = 0; row < shape[0]; ++row)
    for (int64_t i = 0; i < size; ++i) // i = tap * channels + channel
      product.weights.values.push_back(
          (*values)[row * size + i % shape[1] * window + i / shape[1]]);
  product.summedAxes = {llvm::to_vector(llvm::seq<int64_t>(1, shape.size())),
                        int64_t(shape.size())};
  product.window = llvm::to_vector(shape.drop_front(2));
  return product;
}

std::optional<Product> matchProduct(Operation *op) {
  using Match = std::optional<Product> (*)(Operation *);
  Match match = llvm::StringSwitch<Match>(onnx::getOpName(op))
                    .Case("MatMul", matchMatMul)
                    .Case("Gemm", matchGemm)
                    .Case("Conv", matchConv)
                    .Case("MatMulInteger", matchMatMulInteger)
                    .Case("com.microsoft.MatMulNBits", matchMatMulNBits)
                    .Default(nullptr);
  return match ? match(op) : std::nullopt;
}

//===----------------------------------------------------------------------===//
// Scales after the product
//===----------------------------------------------------------------------===//

/// Multiplies `matrix` with a constant of an f32 for each row.
bool scaleRows(TernaryMatrix &matrix, Value factors, bool divide) {
  ElementsAttr constant = onnx::getConstant(factors);
  if (!constant || !constant.getElementType().isF32() ||
      constant.getShapedType().getShape() != ArrayRef(matrix.rows))
    return false;
  std::optional<std::vector<float>> values = readFloats(constant);
  if (!values)
    return false;
  matrix.spreadScales();
  for (auto [i, scale] : llvm::enumerate(matrix.scales)) {
    float factor = (*values)[i / matrix.numGroups()];
    scale = divide ? scale / factor : scale * factor;
  }
  return true;
}

/// Takes the node `user` of a product `value` = `term` times `matrix` in, if
/// all it does is to scale.
bool absorb(Operation *user, Value value, ActivationTerm &term,
            TernaryMatrix &matrix) {
  StringRef name = onnx::getOpName(user);
  if (isCastToF32(user))
    return true;
  bool divide = name == "Div";
  if ((name != "Mul" && !divide) || (divide && user->getOperand(0) != value))
    return false;
  Value other = user->getOperand(user->getOperand(0) == value ? 1 : 0);
  std::optional<ActivationTerm> factor = ActivationMatcher().match(other);
  if (!factor)
    return scaleRows(matrix, other, divide);
  // A product that is done may be scaled by constants only.
  if (factor->isQuantized || (factor->x && term.power == 1))
    return false;
  std::optional<ActivationTerm> scaled =
      term * (divide ? reciprocal(*factor) : *factor);
  if (!scaled)
    return false;
  term = *scaled;
  return true;
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

template <typename T>
ElementsAttr makeElements(ArrayRef<int64_t> shape, Type element,
                          ArrayRef<T> values, StringRef name) {
  return onnx::makeElements(
      RankedTensorType::get(shape, element),
      ArrayRef(reinterpret_cast<const char *>(values.data()),
               values.size() * sizeof(T)),
      name);
}

Value createNode(OpBuilder &b, Location loc, StringRef name,
                 ValueRange operands, Type type,
                 ArrayRef<NamedAttribute> attributes) {
  OperationState state(loc, name, operands, type, attributes);
  return b.create(state)->getResult(0);
}

SmallVector<NamedAttribute> getWeightAttributes(OpBuilder &b,
                                                const TernaryMatrix &matrix) {
  // As the importer keeps INT2: a byte each, of which two bits count.
  std::vector<int8_t> codes(matrix.trits);
  for (int8_t &code : codes)
    code &= 3;
  SmallVector<int64_t> scaleShape;
  if (matrix.group)
    scaleShape = {matrix.rows, matrix.numGroups()};
  SmallVector<NamedAttribute> attributes = {
      b.getNamedAttr("trits", makeElements({matrix.rows, matrix.columns},
                                           b.getIntegerType(2), ArrayRef(codes),
                                           "trits")),
      b.getNamedAttr("scales",
                     makeElements(scaleShape, b.getF32Type(),
                                  ArrayRef(matrix.scales), "scales"))};
  if (matrix.group)
    attributes.push_back(
        b.getNamedAttr("group", b.getI64IntegerAttr(matrix.group)));
  return attributes;
}

std::string describeScales(const TernaryMatrix &matrix) {
  if (!matrix.group)
    return "per tensor";
  if (matrix.numGroups() == 1)
    return "per row";
  return "per group of " + std::to_string(matrix.group);
}

/// A product that is to be replaced, and nodes to do so.
struct Rewriter {
  Operation *op;
  const Product &product;
  OpBuilder b;

  Rewriter(Operation *op, const Product &product)
      : op(op), product(product), b(op) {}

  std::optional<StringRef> makeBitLinear(ActivationTerm term,
                                         TernaryMatrix matrix);
  void makeIntegerProduct(const IntegerActivation &activation,
                          TernaryMatrix matrix);

private:
  Value apply(StringRef name, Value a, Value other) {
    return createNode(
        b, op->getLoc(), name, {a, other}, a.getType(),
        b.getNamedAttr(onnx::kVersionAttr,
                       b.getI64IntegerAttr(onnx::getVersion(op))));
  }
  Value makeConstant(ArrayRef<int64_t> shape, ArrayRef<float> values) {
    return onnx::createConstant(
        b, op->getLoc(),
        makeElements(shape, b.getF32Type(), values, "constant"));
  }
  /// The shape that makes a value of each row one of each channel.
  SmallVector<int64_t> getChannelShape() const;
  Value addBias(Value value);
  void report(StringRef what, const TernaryMatrix &matrix) {
    op->emitRemark() << "recognised " << what << " " << matrix.columns << "x"
                     << matrix.rows << ", scale " << describeScales(matrix);
  }
};

SmallVector<int64_t> Rewriter::getChannelShape() const {
  SmallVector<int64_t> shape = {product.weights.rows};
  if (product.isConvolution())
    shape.append(product.summedAxes.rank - 2, 1);
  return shape;
}

Value Rewriter::addBias(Value value) {
  Value bias = product.bias;
  if (!bias)
    return value;
  if (product.biasFactor != 1)
    bias = apply("onnx.Mul", bias, makeConstant({}, product.biasFactor));
  if (product.isConvolution()) {
    SmallVector<int64_t> shape = getChannelShape();
    bias = apply(
        "onnx.Reshape", bias,
        onnx::createConstant(b, op->getLoc(),
                             makeElements(int64_t(shape.size()), b.getI64Type(),
                                          ArrayRef<int64_t>(shape), "shape")));
  }
  return apply("onnx.Add", value, bias);
}

/// With the nodes after it that only scale it. Says why it cannot.
std::optional<StringRef> Rewriter::makeBitLinear(ActivationTerm term,
                                                 TernaryMatrix matrix) {
  if (matrix.columns > ternary::kMaxK)
    return "sums of more than 131072 columns are not exact";
  term.factor *= product.factor;
  Value value = op->getResult(0);
  while (!product.bias && value.hasOneUse() &&
         absorb(*value.user_begin(), value, term, matrix))
    value = value.user_begin()->getResult(0);
  if (term.power != 1)
    return "the product is not divided by the scale of its activations";

  // q * a / 127 is the activation.
  for (float &scale : matrix.scales)
    scale = float(scale * term.factor * 127);
  SmallVector<NamedAttribute> attributes = getWeightAttributes(b, matrix);
  if (term.axis != -1)
    attributes.push_back(
        b.getNamedAttr("axis", b.getI64IntegerAttr(term.axis)));
  value.replaceAllUsesWith(
      addBias(createNode(b, op->getLoc(), onnx::kBitLinearOp, term.x,
                         value.getType(), attributes)));
  report("BitLinear", matrix);
  return std::nullopt;
}

/// What the zero of codes adds to the products of each row, negated.
std::vector<float> getCorrections(const TernaryMatrix &matrix, int64_t zero) {
  std::vector<float> corrections;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    ArrayRef<int8_t> trits =
        ArrayRef(matrix.trits).slice(row * matrix.columns, matrix.columns);
    int64_t sum = std::accumulate(trits.begin(), trits.end(), int64_t(0));
    corrections.push_back(float(-zero * sum) *
                          matrix.scales[matrix.group ? row : 0]);
  }
  return corrections;
}

/// Products of integers, and the scale of the activations after them.
void Rewriter::makeIntegerProduct(const IntegerActivation &activation,
                                  TernaryMatrix matrix) {
  for (float &scale : matrix.scales)
    scale = float(scale * activation.factor * product.factor);
  SmallVector<NamedAttribute> attributes = getWeightAttributes(b, matrix);
  attributes.push_back(
      b.getNamedAttr("zero", b.getI64IntegerAttr(activation.zero)));
  if (product.isConvolution())
    attributes.push_back(
        b.getNamedAttr("kernel_shape", b.getDenseI64ArrayAttr(product.window)));
  for (StringRef name : {"auto_pad", "dilations", "pads", "strides"})
    if (Attribute attribute = op->getAttr(name))
      attributes.push_back(b.getNamedAttr(name, attribute));
  SmallVector<Value> operands = {activation.codes};
  // A BitLinear's, g / s.
  bool isRescaled = product.isConvolution() && activation.zero == 0 &&
                    activation.scale && activation.divides;
  if (isRescaled)
    operands.push_back(activation.scale);
  Value result = op->getResult(0);
  Value value = createNode(b, op->getLoc(),
                           product.isConvolution() ? onnx::kTernaryConvOp
                                                   : onnx::kTernaryMatMulOp,
                           operands, result.getType(), attributes);
  if (activation.zero != 0)
    value = apply("onnx.Add", value,
                  makeConstant(getChannelShape(),
                               getCorrections(matrix, activation.zero)));
  if (activation.scale && !isRescaled)
    value = apply(activation.divides ? "onnx.Div" : "onnx.Mul", value,
                  activation.scale);
  result.replaceAllUsesWith(addBias(value));
  report(product.isConvolution() ? "ternary convolution" : "ternary product",
         matrix);
}

void recognize(Operation *op) {
  std::optional<Product> product = matchProduct(op);
  if (!product)
    return;
  Value activations = op->getOperand(0);
  ActivationMatcher matcher;
  std::optional<ActivationTerm> term = matcher.match(activations);
  if (product->isConvolution() || (term && !term->isQuantized))
    term = std::nullopt;
  std::optional<IntegerActivation> integers =
      matchIntegers(activations, product->summedAxes);
  std::optional<TernaryMatrix> matrix = splitTernary(product->weights);
  auto refuse = [&](const Twine &why) {
    op->emitRemark() << "not recognised as BitLinear: " << why;
  };
  if (!matrix) {
    if (term || integers)
      refuse("activations are quantised, but weights are not ternary");
    return;
  }
  std::string reason = matcher.getReason().str();
  if (reason.empty())
    reason = "weights are ternary, but activations are not quantised";

  if (!product->isSymmetric)
    return refuse("weights are ternary, but activations have a zero point");
  Rewriter rewriter(op, *product);
  if (term) {
    std::optional<StringRef> failure = rewriter.makeBitLinear(*term, *matrix);
    if (!failure)
      return;
    reason = failure->str();
  }
  bool isIntegerProduct = integers && onnx::getOpName(op) != "MatMulInteger" &&
                          matrix->columns <= ternary::kMaxK &&
                          (!matrix->group || matrix->numGroups() == 1);
  if (!isIntegerProduct)
    return refuse(reason);
  rewriter.makeIntegerProduct(*integers, *matrix);
}

struct RecognizeBitLinear : impl::RecognizeBitLinearBase<RecognizeBitLinear> {
  void runOnOperation() override {
    SmallVector<Operation *> nodes;
    getOperation()->walk([&](Operation *op) {
      if (isa_and_present<onnx::ONNXDialect>(op->getDialect()))
        nodes.push_back(op);
    });
    for (Operation *op : nodes)
      recognize(op);
    // What quantised the activations and was absorbed. Nodes have no effects.
    for (Operation *op : llvm::reverse(nodes))
      if (op->use_empty() && op->getNumResults())
        op->erase();
    updateResultTypes();
  }

private:
  /// Another value of another type hint may be returned now, also after the
  /// passes before this one.
  void updateResultTypes() {
    auto graph = dyn_cast_or_null<func::FuncOp>(
        SymbolTable::lookupSymbolIn(getOperation(), onnx::kGraphName));
    if (!graph || graph.isExternal())
      return;
    Operation *terminator = graph.getBody().front().getTerminator();
    graph.setFunctionType(Builder(graph).getFunctionType(
        graph.getArgumentTypes(), terminator->getOperandTypes()));
  }
};

} // namespace
} // namespace tercet
