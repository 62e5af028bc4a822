// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Matrix products. A float result is a chain over k of fma, starting at zero or
// at the bias; 16-bit floats are widened, and rounded at the end.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

/// What products of elements are added up in.
static Type getSumType(B &b, Type element) {
  Type compute = getComputeType(element);
  return isa<FloatType>(compute) || compute.getIntOrFloatBitWidth() >= 32
             ? compute
             : b.getI32Type();
}

static Tensor multiply(B &b, Tensor x, Tensor y, Tensor init,
                       ArrayRef<AffineMap> maps,
                       ArrayRef<utils::IteratorType> iterators) {
  return b.generic({x, y}, init, maps, iterators, [&](ValueRange v) {
    return b.fma(b.castScalar(b.load(v[0], x.element), x.element, init.element),
                 b.castScalar(b.load(v[1], y.element), y.element, init.element),
                 v[2]);
  });
}

/// x [.., m, k] times weights in panels of columns, [panel, k, column].
static Tensor multiplyPanels(B &b, Tensor x, Tensor panels, Tensor init) {
  Dims dims = b.dims(init), split = dims;
  split.back() = b.dim(panels, 0);
  split.push_back(b.dim(panels, 2));
  int64_t rank = split.size() + 1; // loops: those of the result, k
  auto loop = [&](int64_t i) { return b.getAffineDimExpr(i); };
  SmallVector<AffineExpr> rows;
  for (int64_t i = 0; i + 3 < rank; ++i)
    rows.push_back(loop(i));
  SmallVector<AffineExpr> results = rows;
  rows.push_back(loop(rank - 1));
  results.append({loop(rank - 3), loop(rank - 2)});
  AffineExpr weights[] = {loop(rank - 3), loop(rank - 1), loop(rank - 2)};
  AffineMap maps[] = {AffineMap::get(rank, 0, rows, b.getContext()),
                      AffineMap::get(rank, 0, weights, b.getContext()),
                      AffineMap::get(rank, 0, results, b.getContext())};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.back() = utils::IteratorType::reduction;
  return b.reshape(
      multiply(b, x, panels, b.reshape(init, split), maps, iterators), dims);
}

/// Whether the matrix is worth panels: rows of a constant that are far apart in
/// memory, and read for several rows of x.
static bool isWorthPanels(B &b, Tensor x, Tensor y, Tensor init) {
  constexpr int64_t kMinRowBytes = 2048;
  return y.rank() == 2 && x.rank() == init.rank() && b.getConstant(y) &&
         x.size(x.rank() - 2) != 1 &&
         y.size(1) * y.type().getElementTypeBitWidth() / 8 >= kMinRowBytes;
}

/// Weights [K, N] are packed into panels, as many as there are whole ones.
static Tensor multiplyByWeights(B &b, Tensor x, Tensor y, Tensor init) {
  constexpr int64_t kPanel = 32; // columns
  int64_t depth = y.size(0), columns = y.size(1) / kPanel * kPanel,
          rest = y.size(1) - columns;
  Dim panels = b.dim(columns / kPanel), k = b.dim(depth), width = b.dim(kPanel);
  if (rest == 0)
    return multiplyPanels(
        b, x, b.transpose(b.reshape(y, {k, panels, width}), {1, 0, 2}), init);
  Tensor turned = b.transpose(y, {1, 0});
  auto rowsOf = [&](int64_t first, int64_t count) {
    return b.slice(turned, {b.dim(first), b.dim(0)}, {b.dim(count), k});
  };
  Dims offsets(init.rank(), b.dim(0)), dims = b.dims(init);
  auto columnsOf = [&](int64_t first, int64_t count) {
    offsets.back() = b.dim(first);
    dims.back() = b.dim(count);
    return b.slice(init, offsets, dims);
  };
  Tensor packed =
      b.transpose(b.reshape(rowsOf(0, columns), {panels, width, k}), {0, 2, 1});
  Tensor main = multiplyPanels(b, x, packed, columnsOf(0, columns));
  Tensor last = batchMatmul(b, x, b.transpose(rowsOf(columns, rest), {1, 0}),
                            columnsOf(columns, rest), init.rank() - 2);
  return b.concat({main, last}, init.rank() - 1);
}

Tensor tercet::batchMatmul(GraphBuilder &b, Tensor x, Tensor y, Tensor init,
                           int64_t numBatchDims) {
  if (isWorthPanels(b, x, y, init))
    return multiplyByWeights(b, x, y, init);
  // Batch dimensions, then m, n, k. An extent of 1 is broadcast.
  int64_t rank = numBatchDims + 3;
  auto batch = [&](Tensor tensor) {
    SmallVector<AffineExpr> exprs;
    int64_t own = tensor.rank() - 2;
    for (int64_t i = 0; i < own; ++i) {
      int64_t position = numBatchDims - own + i;
      bool isBroadcast = B::isConstant(b.dim(tensor, i), 1) &&
                         !B::isConstant(b.dim(init, position), 1);
      exprs.push_back(isBroadcast ? b.getAffineConstantExpr(0)
                                  : b.getAffineDimExpr(position));
    }
    return exprs;
  };
  AffineExpr m = b.getAffineDimExpr(rank - 3), n = b.getAffineDimExpr(rank - 2),
             k = b.getAffineDimExpr(rank - 1);
  SmallVector<AffineMap> maps;
  for (auto [tensor, row, column] :
       {std::tuple(x, m, k), std::tuple(y, k, n), std::tuple(init, m, n)}) {
    SmallVector<AffineExpr> exprs = batch(tensor);
    exprs.append({row, column});
    maps.push_back(AffineMap::get(rank, 0, exprs, b.getContext()));
  }
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.back() = utils::IteratorType::reduction;
  return multiply(b, x, y, init, maps, iterators);
}

/// numpy's matmul: vectors are matrices of one row or column, and leading
/// dimensions are broadcast.
FailureOr<Tensor> tercet::matmul(GraphBuilder &b, Tensor x, Tensor y,
                                 Type sumType) {
  if (x.rank() == 0 || y.rank() == 0)
    return b.error() << "an operand is a scalar";
  bool isRow = x.rank() == 1, isColumn = y.rank() == 1;
  if (isRow)
    x = b.unsqueeze(x, 0);
  if (isColumn)
    y = b.unsqueeze(y, 1);
  Dim depth = b.dim(x, x.rank() - 1), other = b.dim(y, y.rank() - 2);
  std::optional<int64_t> a = getConstantIntValue(depth),
                         c = getConstantIntValue(other);
  if (a && c && *a != *c)
    return b.error() << "inner dimensions are " << *a << " and " << *c;
  b.requireEqual(depth, other, "inner dimensions differ");

  // One matrix for all rows of x: its leading dimensions are rows.
  Dims shape;
  if (y.rank() == 2 && x.rank() > 2) {
    shape = b.dims(x);
    x = b.reshape(x, {b.product(ArrayRef(shape).drop_back()), shape.back()});
    shape.back() = b.dim(y, 1);
  }
  Dims batch;
  if (x.rank() > 2 || y.rank() > 2) {
    // Broadcast as if the matrices were elements.
    auto leading = [&](Tensor tensor) {
      Dims dims = b.dims(tensor);
      return b.empty(ArrayRef(dims).drop_back(2), tensor.element);
    };
    Tensor leadings[] = {leading(x), leading(y)};
    FailureOr<Dims> broadcast = b.broadcastDims(leadings);
    if (failed(broadcast))
      return failure();
    batch = *broadcast;
    // What may be broadcast at run time is.
    for (Tensor *tensor : {&x, &y}) {
      Dims own = b.dims(*tensor), full = batch;
      bool isKnown = true;
      for (auto [size, extent] :
           llvm::zip(ArrayRef(own).drop_back(2),
                     ArrayRef(batch).take_back(own.size() - 2)))
        isKnown &= size == extent || B::isConstant(size, 1);
      full.append(own.end() - 2, own.end());
      if (!isKnown)
        *tensor = b.broadcastTo(*tensor, full);
    }
  }
  Dims dims = batch;
  dims.append({b.dim(x, x.rank() - 2), b.dim(y, y.rank() - 1)});
  Tensor product = batchMatmul(b, x, y, b.zeros(dims, sumType), batch.size());
  if (shape.empty())
    shape = dims;
  if (isColumn)
    shape.pop_back();
  if (isRow)
    shape.erase(shape.end() - (isColumn ? 1 : 2));
  return b.reshape(product, shape);
}

static LogicalResult lowerMatMul(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  FailureOr<Tensor> product = matmul(b, x, y, getSumType(b, x.element));
  if (failed(product))
    return failure();
  return b.result(b.cast(*product, x.element));
}

/// alpha * x' * y' + beta * bias. Without factors the chain starts at the bias.
static LogicalResult lowerGemm(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  if (x.rank() != 2 || y.rank() != 2)
    return b.error() << "an operand is no matrix";
  double alpha = b.getFloat("alpha", 1), beta = b.getFloat("beta", 1);
  if (b.getInt("transA", 0))
    x = b.transpose(x, {1, 0});
  if (b.getInt("transB", 0))
    y = b.transpose(y, {1, 0});
  b.requireEqual(b.dim(x, 1), b.dim(y, 0), "inner dimensions differ");
  Type sumType = getSumType(b, x.element);
  Dims dims = {b.dim(x, 0), b.dim(y, 1)};
  bool hasBias = b.has(2) && beta != 0;
  if (hasBias) {
    FailureOr<Dims> common =
        b.broadcastDims({b.empty(dims, sumType), b.input(2)});
    if (failed(common))
      return failure();
    for (auto [size, extent] : llvm::zip(dims, *common))
      if (B::isConstant(size, 1) && !B::isConstant(extent, 1))
        return b.error() << "the bias is larger than the product";
  }
  Tensor init = hasBias && alpha == 1 && beta == 1
                    ? b.broadcastTo(b.cast(b.input(2), sumType), dims)
                    : b.zeros(dims, sumType);
  Tensor product = batchMatmul(b, x, y, init, 0);
  if (alpha == 1 && (beta == 1 || !hasBias))
    return b.result(b.cast(product, x.element));

  SmallVector<Tensor> operands = {product};
  if (hasBias)
    operands.push_back(b.cast(b.input(2), sumType));
  FailureOr<Tensor> result =
      b.elementwise(operands, sumType, [&](ValueRange v) -> Value {
        Value scaled = b.mul(v[0], b.number(alpha, v[0].getType()));
        if (!hasBias)
          return scaled;
        return b.add(scaled, b.mul(v[1], b.number(beta, v[1].getType())));
      });
  if (failed(result))
    return failure();
  return b.result(b.cast(*result, x.element));
}

/// Elimination of one column after another, by its largest element: the product
/// of these, negative for each row that was swapped.
static LogicalResult lowerDet(B &b) {
  Tensor x = b.input(0);
  int64_t rank = x.rank();
  if (rank < 2)
    return b.error() << "the operand is no matrix";
  Dims dims = b.dims(x);
  Dim n = dims[rank - 1];
  std::optional<int64_t> rows = getConstantIntValue(dims[rank - 2]),
                         columns = getConstantIntValue(n);
  if (rows && columns && *rows != *columns)
    return b.error() << "a matrix of " << *rows << "x" << *columns
                     << " is not square";
  b.requireEqual(dims[rank - 2], n, "a matrix is not square");
  dims.truncate(rank - 2);
  Dim batch = b.product(dims);
  Type type = getComputeType(x.element);
  Tensor inits[] = {b.reshape(b.cast(x, type), {batch, n, n}),
                    b.fill(batch, type, b.number(1, type))};
  SmallVector<Tensor> results =
      b.loop(n, inits, [&](Value k, ArrayRef<Tensor> carried) {
        Tensor a = b.withDims(carried[0].value, {batch, n, n}, type);
        Tensor column = b.generate({batch, n}, type, [&](ValueRange i) {
          Value size = b.abs(b.at(a, {i[0], i[1], k}));
          return b.select(b.compare(Compare::GE, i[1], k), size,
                          b.number(-1, type));
        });
        Tensor row =
            findEqual(b, column, reduceMax(b, column, 1), 1, /*last=*/false);
        auto pivotRow = [&](Value i) {
          return wrapIndex(b, b.at(row, {i, b.index(0)}), n);
        };
        Tensor next = b.generate({batch, n, n}, type, [&](ValueRange i) {
          Value p = pivotRow(i[0]), pivot = b.at(a, {i[0], p, k});
          Value from =
              b.select(b.compare(Compare::EQ, i[1], p), k,
                       b.select(b.compare(Compare::EQ, i[1], k), p, i[1]));
          Value value = b.at(a, {i[0], from, i[2]}),
                factor = b.div(b.at(a, {i[0], from, k}), pivot);
          Value isBelow = b.createOrFold<arith::AndIOp>(
              b.compare(Compare::GT, i[1], k),
              b.compare(Compare::NE, pivot, b.number(0, type)));
          return b.select(isBelow,
                          b.sub(value, b.mul(factor, b.at(a, {i[0], p, i[2]}))),
                          value);
        });
        Tensor product = b.generate(batch, type, [&](ValueRange i) {
          Value p = pivotRow(i[0]), pivot = b.at(a, {i[0], p, k});
          Value factor =
              b.select(b.compare(Compare::EQ, p, k), pivot, b.neg(pivot));
          return b.mul(b.at(carried[1], i[0]), factor);
        });
        return SmallVector<Tensor>{next, product};
      });
  Tensor product = b.withDims(results[1].value, batch, type);
  return b.result(b.cast(b.reshape(product, dims), x.element));
}

/// alpha * x * y of matrices that may be transposed: com.microsoft's.
static LogicalResult lowerFusedMatMul(B &b) {
  if (b.getInt("transBatchA", 0) || b.getInt("transBatchB", 0))
    return b.error() << "transBatchA and transBatchB are not supported";
  Tensor operands[] = {b.input(0), b.input(1)};
  for (auto [x, name] :
       llvm::zip(operands, ArrayRef<StringRef>{"transA", "transB"})) {
    if (!b.getInt(name, 0) || x.rank() < 2)
      continue;
    SmallVector<int64_t> order = llvm::to_vector(llvm::seq(x.rank()));
    std::swap(order[x.rank() - 2], order[x.rank() - 1]);
    x = b.transpose(x, order);
  }
  Type type = getComputeType(operands[0].element);
  FailureOr<Tensor> product = matmul(b, operands[0], operands[1], type);
  if (failed(product))
    return failure();
  double alpha = b.getFloat("alpha", 1);
  return b.result(b.map(*product, operands[0].element, [&](ValueRange v) {
    return alpha == 1 ? v[0] : b.mul(v[0], b.number(alpha, type));
  }));
}

static const LoweringRow kRows[] = {
    {"Det", lowerDet},
    {"Gemm", lowerGemm},
    {"MatMul", lowerMatMul},
    {"com.microsoft.FusedMatMul", lowerFusedMatMul},
};

ArrayRef<LoweringRow> tercet::getMatmulLowerings() { return kRows; }
