// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM. One item is a tile of 64 rows, all tokens; 16 rows
// are in the lanes of a 64-byte vector, four planes of 2 bits share its bytes
// (docs/packings.md, i2). Everything that a tuner may change comes from the
// layout on the op.

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "compiler/Support/PackedLayout.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

constexpr int64_t kPlanes = 4;
/// A vector of packed bytes: 16 rows x 4 columns of each plane.
constexpr int64_t kVectorBytes = 64;
/// Columns of a step of the dot product.
constexpr int64_t kStep = 4;

class PackedMatmulKernel {
public:
  PackedMatmulKernel(PackedMatmulOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()), lanes(layout.getLanes()),
        numSteps(getNumColumns(op.getQ()) / kStep),
        numRows(getNumColumns(op.getOuts())) {}

  void emit() {
    Value numTokens = b.dim(op.getQ(), 0);
    b.parallel(
        b.index(llvm::divideCeil(numRows, kI2TileRows)), [&](Value item) {
          tile = item;
          tileAddress =
              b.mulIndex(tile, getPackedTileSize(layout, numSteps * kStep));
          // The tile is in the cache for every block of tokens but the first.
          b.blockedLoop(
              numTokens, layout.getTokens(),
              [&](Value token, int64_t count) { emitBlock(token, count); });
        });
  }

private:
  /// A GEMV takes whole 64-byte vectors and several steps of K at a time. A
  /// GEMM has no register to spare: one part of `lanes` rows after another.
  void emitBlock(Value token, int64_t count) {
    int64_t numParts = kVectorBytes / (kStep * lanes);
    firstToken = token;
    numTokens = count;
    if (count == 1)
      return emitTile(llvm::to_vector(llvm::seq<int64_t>(numParts)),
                      std::max<int64_t>(layout.getUnroll(), 1));
    for (int64_t part = 0; part < numParts; ++part)
      emitTile({part}, /*unroll=*/1);
  }

  void emitTile(ArrayRef<int64_t> parts, int64_t unroll);
  void emitStep(Value step, ArrayRef<int64_t> parts,
                MutableArrayRef<Value> sums);
  void emitResult(int64_t part, int64_t plane, int64_t token, Value sum);

  VectorType bytes() { return VectorType::get(kStep * lanes, b.getI8Type()); }
  VectorType ints() { return VectorType::get(lanes, b.getI32Type()); }
  VectorType floats() { return VectorType::get(lanes, b.getF32Type()); }
  Value splat(Value scalar, VectorType type) {
    return vector::BroadcastOp::create(b, type, scalar);
  }

  /// q[token, 4 * step .. + 3] in every lane.
  Value broadcastQ(Value token, Value step) {
    Value four = vector::LoadOp::create(
        b, VectorType::get(kStep, b.getI8Type()), op.getQ(),
        ValueRange{token, b.mulIndex(step, kStep)});
    Value word = vector::ExtractOp::create(
        b, b.bitcast(VectorType::get(1, b.getI32Type()), four), 0);
    return b.bitcast(bytes(), splat(word, ints()));
  }

  PackedMatmulOp op;
  KernelBuilder &b;
  LayoutAttr layout;
  int64_t lanes, numSteps, numRows;

  Value tile, tileAddress;
  Value firstToken;
  int64_t numTokens;
};

} // namespace

/// All of K for some parts and tokens. An accumulator for each step in flight,
/// part, plane and token, in this order.
void PackedMatmulKernel::emitTile(ArrayRef<int64_t> parts, int64_t unroll) {
  int64_t setSize = parts.size() * kPlanes * numTokens;
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(ints()));
  int64_t unrolledEnd = numSteps / unroll * unroll;
  Values sums = b.loop(
      b.index(0), b.index(unrolledEnd), unroll, Values(unroll * setSize, zero),
      [&](Value step, ValueRange carried) {
        Values sums(carried.begin(), carried.end());
        for (int64_t u = 0; u < unroll; ++u)
          emitStep(b.addIndex(step, u), parts,
                   MutableArrayRef(sums).slice(u * setSize, setSize));
        return sums;
      });
  for (int64_t step = unrolledEnd; step < numSteps; ++step)
    emitStep(b.index(step), parts, MutableArrayRef(sums).take_front(setSize));

  // Integer sums: the order does not matter.
  for (int64_t u = 1; u < unroll; ++u)
    for (int64_t i = 0; i < setSize; ++i)
      sums[i] = arith::AddIOp::create(b, sums[i], sums[u * setSize + i]);
  int64_t next = 0;
  for (int64_t part : parts)
    for (int64_t plane = 0; plane < kPlanes; ++plane)
      for (int64_t token = 0; token < numTokens; ++token)
        emitResult(part, plane, token, sums[next++]);
}

/// Four columns: one load of packed bytes a part, one AND a plane, one dot
/// product a plane and token. Tokens are the outer loop: four vectors of codes
/// and one of q are alive beside the sums, which is what makes 24 of them fit.
void PackedMatmulKernel::emitStep(Value step, ArrayRef<int64_t> parts,
                                  MutableArrayRef<Value> sums) {
  Value address = b.addIndex(tileAddress, b.mulIndex(step, kVectorBytes));
  if (numTokens == 1 && layout.getPrefetch())
    b.prefetch(op.getWeights(), b.addIndex(address, layout.getPrefetch()));
  Values codes;
  for (int64_t part : parts) {
    Value packed = b.loadBytes(bytes(), op.getWeights(),
                               b.addIndex(address, part * kStep * lanes));
    for (int64_t plane = 0; plane < kPlanes; ++plane)
      codes.push_back(UnpackOp::create(b, packed, plane, layout.getInPlace()));
  }
  for (int64_t token = 0; token < numTokens; ++token) {
    Value q = broadcastQ(b.addIndex(firstToken, token), step);
    for (auto [i, code] : llvm::enumerate(codes)) {
      Value &sum = sums[i * numTokens + token];
      sum = DotOp::create(b, sum, code, q);
    }
  }
}

/// Codes are w + 1 (times 4^plane in place): undo both, then rescale.
void PackedMatmulKernel::emitResult(int64_t part, int64_t plane, int64_t token,
                                    Value sum) {
  Value tokenIndex = b.addIndex(firstToken, token);
  Value group = b.addIndex(b.mulIndex(tile, kPlanes), plane);
  auto store = [&] {
    if (layout.getInPlace() && plane != 0) {
      Value shift = arith::ConstantOp::create(
          b, DenseElementsAttr::get(ints(), b.getI32IntegerAttr(2 * plane)));
      sum = arith::ShRSIOp::create(b, sum, shift);
    }
    Value sumOfQ = b.loadScalar(op.getSum(), tokenIndex);
    Value exact = arith::SubIOp::create(b, sum, splat(sumOfQ, ints()));
    Value factor = b.div(b.loadScalar(op.getScales(), group),
                         b.loadScalar(op.getScale(), tokenIndex));
    Value result = b.mul(arith::SIToFPOp::create(b, floats(), exact),
                         splat(factor, floats()));
    Value row = b.addIndex(b.mulIndex(group, kRowGroup), part * lanes);
    vector::StoreOp::create(b, result, op.getOuts(),
                            ValueRange{tokenIndex, row});
  };
  if (numRows % kI2TileRows == 0)
    return store();
  // The last tile has planes beyond the matrix.
  Value inside = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, group,
                                       b.index(numRows / kRowGroup));
  auto guard = scf::IfOp::create(b, inside, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard insertion(b);
  b.setInsertionPointToStart(guard.thenBlock());
  store();
}

void tercet::populatePackedMatmulPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<PackedMatmulOp>>(
      patterns.getContext(), +[](PackedMatmulOp op, KernelBuilder &b) {
        PackedMatmulKernel(op, b).emit();
      });
}
