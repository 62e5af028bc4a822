// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the lowerings of ONNX operators are written in. A lowering sees its node
// through a GraphBuilder: operands that are lowered already, attributes, and
// the vocabulary to build results with. Shapes follow from the operands as they
// are, never from what the file says of them.
//
// Tensors of integers of the graph's shapes (Shape, Gather, Concat, ...) are
// computed element by element: a small tensor is a tensor.from_elements or a
// constant, its operators fold, and Reshape finds the numbers again.

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_GRAPHBUILDER_H
#define TERCET_COMPILER_CONVERSION_LOWERONNX_GRAPHBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/OpDefinition.h"

namespace tercet {

/// A lowered value. `element` is ONNX's type, with its sign (ui8); in memory a
/// tensor has signless elements of whole bytes (getStorageType).
struct Tensor {
  mlir::Value value;
  mlir::Type element;

  explicit operator bool() const { return bool(value); }
  mlir::RankedTensorType type() const {
    return llvm::cast<mlir::RankedTensorType>(value.getType());
  }
  int64_t rank() const { return type().getRank(); }
  int64_t size(int64_t dim) const { return type().getDimSize(dim); }
  bool isStatic() const { return type().hasStaticShape(); }
  bool isFloat() const { return llvm::isa<mlir::FloatType>(element); }
  bool isUnsigned() const {
    return element.isUnsignedInteger() || element.isInteger(1);
  }
};

/// An extent or index: a number where it is known, else a value of type index.
using Dim = mlir::OpFoldResult;
using Dims = llvm::SmallVector<Dim>;

/// bool, float8 and integers below 8 bits are i8, all other types signless.
mlir::Type getStorageType(mlir::Type element);
/// What arithmetic is done in: bool is i1, floats below 32 bits are f32.
mlir::Type getComputeType(mlir::Type element);

class GraphBuilder : public mlir::ImplicitLocOpBuilder {
public:
  using Type = mlir::Type;
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Values = llvm::SmallVector<Value>;
  template <typename T> using ArrayRef = llvm::ArrayRef<T>;

  explicit GraphBuilder(mlir::ModuleOp module);

  //===--------------------------------------------------------------------===//
  // The node
  //===--------------------------------------------------------------------===//

  mlir::Operation *node() const { return current; }
  int64_t version() const;
  unsigned numInputs() const { return current->getNumOperands(); }
  unsigned numOutputs() const { return current->getNumResults(); }
  /// Whether the optional input is there.
  bool has(unsigned index) const;
  Tensor input(unsigned index);
  /// Whether anybody reads the output.
  bool isUsed(unsigned index) const {
    return index < numOutputs() && !current->getResult(index).use_empty();
  }
  int64_t getInt(llvm::StringRef name, int64_t otherwise) const;
  float getFloat(llvm::StringRef name, float otherwise) const;
  llvm::StringRef getString(llvm::StringRef name,
                            llvm::StringRef otherwise) const;
  std::optional<ArrayRef<int64_t>> getInts(llvm::StringRef name) const;
  /// The type that an attribute numbers, as TensorProto.DataType does.
  llvm::FailureOr<Type> getElementType(llvm::StringRef name, Type otherwise);
  /// Attribute `axis` of a tensor with `rank` dimensions, or `name`; fails when
  /// it is none of them.
  llvm::FailureOr<int64_t> getAxis(int64_t rank, int64_t otherwise,
                                   llvm::StringRef name = "axis");
  llvm::FailureOr<int64_t> normalizeAxis(int64_t axis, int64_t rank);
  /// Attribute `axes`, or with `index` that input where there is no attribute;
  /// sorted. Without either, all of them.
  llvm::FailureOr<llvm::SmallVector<int64_t>> getAxes(int64_t rank,
                                                      unsigned index);

  /// The axes of input `index` for a tensor of `rank`, whether constant or not.
  Values getRuntimeAxes(int64_t rank, unsigned index);

  /// An error that names operator, node and version.
  mlir::InFlightDiagnostic error();

  /// Sets the next result; `Tensor` may have unused parts of a node empty.
  llvm::LogicalResult result(Tensor tensor);

  //===--------------------------------------------------------------------===//
  // Constants and shapes
  //===--------------------------------------------------------------------===//

  Tensor constant(mlir::ElementsAttr value);
  /// Of the weights, whatever its size and type.
  Value parameter(mlir::ElementsAttr value);
  Tensor scalar(double value, Type element);
  Tensor integers(ArrayRef<int64_t> values, Type element);
  Tensor fromElements(ValueRange elements, ArrayRef<int64_t> shape,
                      Type element);
  /// The value of a constant of the file, else null.
  mlir::ElementsAttr getConstant(Tensor tensor) const;
  std::optional<llvm::SmallVector<int64_t>> getConstantInts(Tensor tensor);
  std::optional<double> getConstantScalar(Tensor tensor);
  /// Whether elements() costs nothing.
  bool hasElements(Tensor tensor) const;
  /// The elements of a static tensor, row-major, of storage type.
  Values elements(Tensor tensor);
  /// The elements of a 1-D or 0-D integer tensor as extents.
  Dims toDims(Tensor tensor);
  Tensor fromDims(ArrayRef<Dim> dims, Type element);

  Dims dims(Tensor tensor);
  Dim dim(Tensor tensor, int64_t index) { return dims(tensor)[index]; }
  Dim dim(int64_t value) { return getIndexAttr(value); }
  Value index(Dim dim);
  Value index(int64_t value);
  static bool isConstant(Dim dim, int64_t value) {
    return mlir::isConstantIntValue(dim, value);
  }
  Dim add(Dim a, Dim b);
  Dim sub(Dim a, Dim b);
  Dim mul(Dim a, Dim b);
  /// Of numbers that are not negative, rounded down and up.
  Dim div(Dim a, Dim b);
  Dim ceilDiv(Dim a, Dim b);
  Dim min(Dim a, Dim b);
  Dim max(Dim a, Dim b);
  Dim product(ArrayRef<Dim> dims);
  /// Ends the run with a message unless `condition` (i1) holds.
  void require(Value condition, llvm::StringRef message);
  void requireEqual(Dim a, Dim b, llvm::StringRef message);

  mlir::RankedTensorType tensorType(ArrayRef<Dim> dims, Type element);
  Tensor empty(ArrayRef<Dim> dims, Type element);
  /// `scalar` of storage type.
  Tensor fill(ArrayRef<Dim> dims, Type element, Value scalar);
  Tensor zeros(ArrayRef<Dim> dims, Type element);
  /// Notes what is known of the extents of a value.
  Tensor withDims(Value value, ArrayRef<Dim> dims, Type element);

  Tensor reshape(Tensor tensor, ArrayRef<Dim> dims);
  Tensor transpose(Tensor tensor, ArrayRef<int64_t> permutation);
  Tensor slice(Tensor tensor, ArrayRef<Dim> offsets, ArrayRef<Dim> sizes,
               ArrayRef<Dim> strides = {});
  Tensor insertSlice(Tensor source, Tensor into, ArrayRef<Dim> offsets,
                     ArrayRef<Dim> strides = {});
  Tensor unsqueeze(Tensor tensor, ArrayRef<int64_t> axes);
  Tensor concat(ArrayRef<Tensor> tensors, int64_t axis);
  /// `before` and `after` are not negative.
  Tensor pad(Tensor tensor, ArrayRef<Dim> before, ArrayRef<Dim> after,
             Value scalar);
  /// To the shape `dims`, which the tensor broadcasts to.
  Tensor broadcastTo(Tensor tensor, ArrayRef<Dim> dims);
  llvm::FailureOr<Dims> broadcastDims(ArrayRef<Tensor> tensors);
  Tensor cast(Tensor tensor, Type element);

  //===--------------------------------------------------------------------===//
  // Tensor arithmetic
  //===--------------------------------------------------------------------===//

  using Body = llvm::function_ref<Value(ValueRange)>;

  /// `body` of corresponding elements, with broadcasting; arguments and result
  /// are scalars of compute type.
  llvm::FailureOr<Tensor> elementwise(ArrayRef<Tensor> operands, Type element,
                                      Body body);
  /// The same of one operand, which cannot fail.
  Tensor map(Tensor operand, Type element, Body body) {
    return *elementwise(operand, element, body);
  }
  /// The same of two whose shapes derive from another, which cannot fail.
  Tensor combine(Tensor x, Tensor y, Type element, Body body) {
    return *elementwise({x, y}, element, body);
  }
  /// The element at `indices` is what `body` makes of them, of storage type.
  Tensor generate(ArrayRef<Dim> dims, Type element, Body body);
  /// An element, of storage type.
  Value at(Tensor tensor, ValueRange indices);
  /// A linalg.generic whose body works on storage types; the last argument is
  /// the element of `init`.
  Tensor generic(ArrayRef<Tensor> operands, Tensor init,
                 ArrayRef<mlir::AffineMap> maps,
                 ArrayRef<mlir::utils::IteratorType> iterators, Body body);
  /// Folds the elements along `axes`, the combination of compute-type scalars
  /// being `combine(element, accumulator)`; `element` of the result may be
  /// wider. Reduced dimensions have extent 1 with `keep`.
  Tensor reduce(Tensor operand, ArrayRef<int64_t> axes, bool keep, Type element,
                Value identity, Body combine);

  using LoopBody = llvm::function_ref<llvm::SmallVector<Tensor>(
      Value iv, ArrayRef<Tensor> carried)>;
  /// `count` iterations one after another; returns what is carried. Types stay.
  llvm::SmallVector<Tensor> loop(Dim count, ArrayRef<Tensor> inits,
                                 LoopBody body);
  /// Iterations as long as `condition` (i1) of what is carried holds.
  llvm::SmallVector<Tensor> loopWhile(
      ArrayRef<Tensor> inits,
      llvm::function_ref<Value(ArrayRef<Tensor>)> condition,
      llvm::function_ref<llvm::SmallVector<Tensor>(ArrayRef<Tensor>)> body);
  /// One iteration for each index within `dims`, row-major.
  Tensor forEachIndex(
      ArrayRef<Dim> dims, Tensor init,
      llvm::function_ref<Tensor(ValueRange indices, Tensor carried)> body);

  //===--------------------------------------------------------------------===//
  // Scalars of compute type, and indices
  //===--------------------------------------------------------------------===//

  Value load(Value stored, Type element);
  Value store(Value computed, Type element);
  Value number(double value, Type type);
  /// The least and greatest of a type, of storage type: infinities of floats.
  Value lowest(Type element);
  Value highest(Type element);
  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value div(Value a, Value b, bool isUnsigned = false);
  Value max(Value a, Value b, bool isUnsigned = false);
  Value min(Value a, Value b, bool isUnsigned = false);
  Value neg(Value a);
  Value abs(Value a);
  Value fma(Value a, Value b, Value c);
  Value exp(Value a);
  Value sigmoid(Value a);
  Value select(Value condition, Value a, Value b);
  enum class Compare { EQ, NE, LT, LE, GT, GE };
  Value compare(Compare predicate, Value a, Value b, bool isUnsigned = false);
  /// A scalar of one ONNX type as another.
  Value castScalar(Value a, Type from, Type to);
  Value toIndex(Value integer);

  //===--------------------------------------------------------------------===//
  // Graphs
  //===--------------------------------------------------------------------===//

  /// Lowers the nodes of a graph; returns what it yields. Its arguments are
  /// bound by `bind`.
  llvm::FailureOr<llvm::SmallVector<Tensor>> lowerGraph(mlir::Block &graph);
  void bind(Value original, Tensor tensor) { known.lowered[original] = tensor; }

  /// What is known of values. When code is thrown away it has to be restored:
  /// other values may get the addresses of those that are gone.
  struct Knowledge {
    llvm::DenseMap<Value, Tensor> lowered; // by ONNX's
    llvm::DenseMap<Value, Dims> dims;
    llvm::DenseMap<Value, mlir::ElementsAttr> constants;
  };
  Knowledge getKnowledge() const { return known; }
  void restore(Knowledge before) { known = std::move(before); }

private:
  llvm::LogicalResult lowerNode(mlir::Operation *op);
  Tensor lookup(Value original);
  Dim fold(llvm::function_ref<Value(Value, Value)> build, Dim a, Dim b);
  Value extreme(Type element, bool isLowest);
  Tensor elementwiseTo(ArrayRef<Dim> dims, ArrayRef<Tensor> operands,
                       Type element, Body body);
  Tensor elementwiseOfElements(ArrayRef<Tensor> operands, ArrayRef<Dim> dims,
                               Type element, Body body);

  mlir::ModuleOp module;
  mlir::Operation *current = nullptr;
  unsigned nextResult = 0;
  unsigned numParameters = 0;
  Knowledge known;
};

//===----------------------------------------------------------------------===//
// Shared by families
//===----------------------------------------------------------------------===//

/// init[.., m, n] + the chain over k of x[.., m, k] * y[.., k, n]; leading
/// dimensions of 1 are broadcast, and elements become those of `init`.
Tensor batchMatmul(GraphBuilder &b, Tensor x, Tensor y, Tensor init,
                   int64_t numBatchDims);
/// Folds along axes, which have extent 1 in the result; sums and means are of
/// compute type.
Tensor reduceSum(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
Tensor reduceMean(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
Tensor reduceMax(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
/// The number of elements along axes, as a scalar of compute type.
mlir::Value countAlong(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
/// The index along `axis`, of extent 1 in the result, of the elements that
/// equal `best`; `isAllowed` excludes others. Of several the first or last.
Tensor findEqual(GraphBuilder &b, Tensor x, Tensor best, int64_t axis,
                 bool last,
                 llvm::function_ref<mlir::Value(mlir::Value, mlir::ValueRange)>
                     isAllowed = nullptr);
Tensor softmax(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
Tensor logSoftmax(GraphBuilder &b, Tensor x, llvm::ArrayRef<int64_t> axes);
/// An index that data hold as one of 0 .. size - 1; negative ones count from
/// the end.
mlir::Value wrapIndex(GraphBuilder &b, mlir::Value integer, Dim size);
/// Weights of the two neighbours of a point that is `fraction` behind the
/// first, and of four, the second of which it is behind.
llvm::SmallVector<mlir::Value> linearWeights(GraphBuilder &b,
                                             mlir::Value fraction);
llvm::SmallVector<mlir::Value> cubicWeights(GraphBuilder &b,
                                            mlir::Value fraction, double a);
/// The node as a convolution, of these operands; `bias` may be missing.
llvm::FailureOr<Tensor> convolve(GraphBuilder &b, Tensor x, Tensor w,
                                 Tensor bias, mlir::Type sumType);
/// What each position of the node's window sees of x [N, C, ..], C static:
/// [N, positions.., window.., C], the last two as one where they are
/// contiguous, rounded up to 4 by what is beside the window. Its padding is
/// `scalar`.
llvm::FailureOr<Tensor> gatherWindows(GraphBuilder &b, Tensor x,
                                      mlir::Value scalar);
/// Codes of ui8, one scale and zero point for the whole tensor, so that 0 is a
/// code.
struct QuantizedTensor {
  Tensor codes, scale, zeroPoint;
};
llvm::FailureOr<QuantizedTensor> quantizeDynamically(GraphBuilder &b, Tensor x);
/// Integers minus their zero point, which may be missing, as i32.
llvm::FailureOr<Tensor> subtractZeroPoint(GraphBuilder &b, Tensor x,
                                          Tensor zeroPoint);
/// numpy's matmul, added up in `sumType`.
llvm::FailureOr<Tensor> matmul(GraphBuilder &b, Tensor x, Tensor y,
                               mlir::Type sumType);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_GRAPHBUILDER_H
