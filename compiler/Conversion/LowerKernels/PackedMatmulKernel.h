// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel of packed_matmul by dot products, in three parts: what an item
// computes (PackedMatmul.cpp), how packed bytes become codes
// (PackedMatmulCodes.cpp), and products of tiles (PackedMatmulTiles.cpp).

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMULKERNEL_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMULKERNEL_H

#include "compiler/Conversion/LowerKernels/PackedMatmul.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <optional>

namespace tercet {

/// Columns of a step of the dot product.
inline constexpr int64_t kStep = 4;

/// Steps whose q is one vector, where a dot product takes a lane of it: of a
/// tile of one step a cell, or a whole strip of i2.
inline constexpr int64_t kLanesOfQ = 4;

/// One of some steps in a row whose q is one vector.
struct LaneOfQ {
  int64_t lane, numLanes;
};

class PackedMatmulKernel {
public:
  using Values = KernelBuilder::Values;

  PackedMatmulKernel(ternary::PackedMatmulOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()), lanes(layout.getLanes()),
        numPlanes(layout.getNumPlanes()),
        numTokenDims(
            llvm::cast<mlir::ShapedType>(op.getScale().getType()).getRank()),
        columnDims(llvm::cast<mlir::ShapedType>(op.getQ().getType())
                       .getShape()
                       .drop_front(numTokenDims)),
        numColumns(mlir::ShapedType::getNumElements(columnDims)) {}

  void emit();

private:
  void emitItem(mlir::Value address, mlir::Value firstRowGroup, bool isStrip);
  void emitPanels();
  void emitTokens(bool prefetchesNext = false);
  void emitBlock(mlir::Value token, int64_t count);
  void emitDotBlocks();
  int64_t getBlockColumns();
  void clearOverlap(mlir::Value codes, int64_t columns);
  void storeCodes(mlir::Value vector, mlir::Value codes, int64_t plane,
                  mlir::Value row, int64_t part);
  void unpackCell(mlir::Value index, int64_t cellColumns, mlir::Value codes,
                  mlir::Value firstCell, int64_t columns);
  void prefetchCell(mlir::Value index, int64_t columns,
                    mlir::Value distance = {});
  mlir::Value getDistance(mlir::Value cellOfStream, int64_t cellsOfStream,
                          int64_t streams);
  void prefetchNextTile(mlir::Value token, int64_t count);
  void emitParts(mlir::ArrayRef<int64_t> parts, int64_t unroll);
  void rescaleSums(mlir::ValueRange sums, mlir::ArrayRef<int64_t> parts);
  void forEachToken(llvm::function_ref<void()> body);
  void emitWindows(llvm::function_ref<void()> emitRows);
  void emitWindowBlocks(mlir::Value numWindows,
                        llvm::function_ref<void()> emitRows);
  void copyWindows();
  bool sharesScale();
  mlir::Value getWindows(mlir::Value scratch);
  Values locate(mlir::Value number, int64_t numDims);
  Values at(mlir::Value token, mlir::ValueRange more = {});
  Values getPlaceInQ(mlir::Value token, mlir::Value column, int64_t offset = 0);
  mlir::Value countTokens() { return b.dim(op.getQ(), numTokenDims - 1); }
  /// Whether the columns of a token are one row of memory.
  bool isMatrix() const { return numTokenDims == 1 && columnDims.size() == 1; }
  /// Whether blocks of tokens are multiplied by a matrix unit, if they are
  /// many.
  bool usesDotBlocks() {
    return layout.getBlocks() && !op.getGroup() &&
           numColumns >= ternary::kPanelColumns;
  }
  /// Whether columns from a multiple of a cell's on are neighbours.
  bool hasWholeCells() const {
    return columnDims.size() == 1 || columnDims.back() % cell.columns == 0;
  }
  mlir::SmallVector<Values> getPlaces(mlir::ArrayRef<int64_t> parts);
  Values loadSums(mlir::ArrayRef<int64_t> parts);
  void storeSums(mlir::ValueRange sums, mlir::ArrayRef<int64_t> parts);
  void emitGroups(mlir::ArrayRef<int64_t> parts, int64_t unroll);
  Values sumGroup(mlir::Value firstCell, int64_t skipped, int64_t columns,
                  mlir::ArrayRef<int64_t> parts, int64_t unroll);
  Values sumColumns(mlir::Value firstCell, int64_t columns,
                    mlir::ArrayRef<int64_t> parts, int64_t unroll, Values sums);
  Values sumSomeColumns(mlir::Value cellIndex, int64_t begin, int64_t end,
                        mlir::ArrayRef<int64_t> parts);
  Values sumTiles(mlir::Value firstCell, int64_t columns,
                  mlir::ArrayRef<int64_t> parts, Values sums);
  void emitTileStep(mlir::Value step, bool hasSecond,
                    mlir::ArrayRef<int64_t> parts,
                    mlir::MutableArrayRef<mlir::Value> sums);
  mlir::Value addTile(mlir::Value sums, mlir::Value codes, mlir::Value q);
  mlir::Value loadTokenPair(mlir::Value token, mlir::Value column,
                            int64_t words);
  Values splitTiles(mlir::ValueRange sums);
  int64_t getNumSets(mlir::ValueRange set, int64_t unroll);
  Values sumCells(mlir::Value firstCell, int64_t columns,
                  mlir::ArrayRef<int64_t> parts, int64_t unroll, Values sums);
  /// Columns `begin` .. `end` - 1 of a cell, or of a step of it.
  struct CellRange {
    mlir::Value index;
    int64_t begin, end;
    std::optional<LaneOfQ> laneOfQ = {};
    mlir::Value prefetch = {}; ///< so many bytes ahead, else as the layout says
  };
  /// A step: one vector of codes for each plane, and of t3 half a byte of each.
  /// `emit` gets the fields of each part, and the sums of the set of
  /// accumulators whose turn it is.
  using StepEmitter =
      llvm::function_ref<void(CellRange step, mlir::ArrayRef<Values> fields,
                              mlir::MutableArrayRef<mlir::Value> sums)>;
  void forEachStep(CellRange range, mlir::ArrayRef<int64_t> parts,
                   mlir::MutableArrayRef<mlir::Value> sums, StepEmitter emit);
  /// Without instructions for q between them, the codes of one part keep dot
  /// products busy: an in-order core waits less for them.
  bool takesPartsInTurn() const { return b.options.dotsLanes; }
  void forEachStepOfT3(CellRange range, mlir::ArrayRef<int64_t> parts,
                       mlir::MutableArrayRef<mlir::Value> sums,
                       StepEmitter emit);
  void emitCell(CellRange range, mlir::ArrayRef<int64_t> parts,
                mlir::MutableArrayRef<mlir::Value> sums);
  void emitStep(CellRange step, mlir::ArrayRef<Values> fields,
                mlir::MutableArrayRef<mlir::Value> sums);
  void expandPanel(mlir::Value firstCell);
  mlir::Value getExpandedIndex(mlir::Value step, int64_t i, int64_t part);
  mlir::Value loadPacked(mlir::Value first, int64_t part);
  Values loadFields(mlir::Value index, int64_t part);
  Values getPlanes(mlir::ArrayRef<mlir::Value> fields);
  mlir::Value getPlane(mlir::Value fields, int64_t plane);
  void undoInPlace(mlir::MutableArrayRef<mlir::Value> planeSums);
  Values addPairs(mlir::ValueRange sums, mlir::ValueRange pairs);
  /// A sum for each of `parts`, plane and token, in this order.
  int64_t getNumSums(mlir::ArrayRef<int64_t> parts) const {
    return parts.size() * numPlanes * numTokens;
  }
  Values zeros(mlir::ArrayRef<int64_t> parts, mlir::VectorType type) {
    return Values(getNumSums(parts),
                  mlir::arith::ConstantOp::create(b, b.getZeroAttr(type)));
  }
  mlir::SmallVector<int64_t> getAllParts() const {
    return llvm::to_vector(llvm::seq<int64_t>(ternary::kRowGroup / lanes));
  }
  int64_t getPanelColumns();
  bool isWholePanel() const { return panelColumns == numColumns; }
  bool isGemv() const { return numTokens == 1 && !expanded; }
  /// Planes that are fields of one byte; t5 has another plane beside them.
  int64_t getNumFields() const { return std::min<int64_t>(numPlanes, 4); }
  /// Whether fields may be left with others, which have the same q: their sums
  /// are subtracted at the end.
  bool sharesFields() const { return leavesInPlace() && !isStrip; }
  /// Whether what is in a byte beside a code may stay: not where the codes of
  /// every plane are unpacked for many tokens.
  bool leavesInPlace() const {
    return layout.getInPlace() && !(expands && expandsPlanes());
  }
  /// Whether the dot product takes all fields of a byte from a plane on, of
  /// which each is at most 2.
  bool fitsDot(int64_t plane) const {
    int64_t largest = 0;
    for (int64_t above = plane; above < getNumFields(); ++above)
      largest = 4 * largest + 2;
    return largest <= b.options.maxDotCode;
  }
  /// Whether a field is shifted down with those above it: one shift.
  bool hasHigherFields(int64_t plane) const {
    return sharesFields() && b.options.shiftsBytes && fitsDot(plane);
  }
  /// Whether a field is left with those below it: the last one, no instruction.
  bool hasLowerFields(int64_t plane) const {
    return sharesFields() && !b.options.shiftsBytes && fitsDot(0) &&
           plane == getNumFields() - 1;
  }
  /// Whether a field by itself stays where it is: one AND.
  bool isInPlace(int64_t plane) const {
    return leavesInPlace() && (2 << 2 * plane) <= b.options.maxDotCode;
  }
  /// Whether tables of t5 are in registers beside the sums of a GEMM.
  bool keepsTables() const {
    return layout.getPacking() == ternary::Packing::T5 && !expanded;
  }
  /// Whether dot products are of two rows by two tokens and eight columns: the
  /// steps of a tile, each a vector of every plane, in pairs.
  bool usesTiles() const {
    return b.options.dotsTiles && isMatrix() && !isStrip &&
           cell.columns == kStep && layout.getChain() == 1 &&
           numTokens % 2 == 0;
  }
  int64_t getStepColumns() const { return cell.columns / cell.steps; }
  bool staysPacked() const;
  int64_t getMinExpandedTokens() const;
  /// Whether each code of i2 is one AND and one dot product.
  bool isMaskedOnly() const {
    return layout.getPacking() == ternary::Packing::I2 &&
           layout.getChain() == 1 && layout.getInPlace();
  }
  /// What is kept of a step that is unpacked: the codes of every plane, or
  /// where masks cost nothing the bytes that hold them.
  bool expandsPlanes() const { return !b.options.masksBesideDots; }
  int64_t getNumExpanded() const {
    return expandsPlanes() ? numPlanes : llvm::divideCeil(numPlanes, 4);
  }
  using SumEmitter = llvm::function_ref<void(int64_t part, int64_t rowGroup,
                                             int64_t token, mlir::Value exact)>;
  void forEachSum(mlir::ValueRange planeSums, mlir::ArrayRef<int64_t> parts,
                  mlir::Value group, SumEmitter emit);

  mlir::VectorType bytes() {
    return mlir::VectorType::get(kStep * lanes, b.getI8Type());
  }
  mlir::VectorType pairs() {
    return mlir::VectorType::get(2 * lanes, b.getI16Type());
  }
  mlir::VectorType ints() {
    return mlir::VectorType::get(lanes, b.getI32Type());
  }
  mlir::VectorType floats() {
    return mlir::VectorType::get(lanes, b.getF32Type());
  }
  mlir::Value splat(mlir::Value scalar, mlir::VectorType type) {
    return mlir::vector::BroadcastOp::create(b, type, scalar);
  }

  /// q[token, column + offset ..] of four columns, in every lane.
  mlir::Value broadcastQ(mlir::Value token, mlir::Value column,
                         int64_t offset) {
    return broadcastLaneOfQ(getPlaceInQ(token, column, offset),
                            {/*lane=*/0, /*numLanes=*/1});
  }
  /// Four columns at a place in q, from a vector of `numLanes` times four.
  mlir::Value broadcastLaneOfQ(mlir::ValueRange place, LaneOfQ of) {
    auto [lane, numLanes] = of;
    mlir::Value q = mlir::vector::LoadOp::create(
        b, mlir::VectorType::get(numLanes * kStep, b.getI8Type()), op.getQ(),
        place);
    mlir::Value word = mlir::vector::ExtractOp::create(
        b, b.bitcast(mlir::VectorType::get(numLanes, b.getI32Type()), q), lane);
    return b.bitcast(bytes(), splat(word, ints()));
  }

  ternary::PackedMatmulOp op;
  KernelBuilder &b;
  ternary::LayoutAttr layout;
  int64_t lanes, numPlanes, numTokenDims;
  mlir::ArrayRef<int64_t> columnDims;
  int64_t numColumns;
  /// Where tokens have several dimensions: the indices of all but the last.
  Values outerToken;
  /// The windows that are a block.
  mlir::Value firstWindow, numWindows;

  // The rows of an item.
  mlir::Value address, firstRowGroup;
  bool isStrip;
  ternary::Cell cell;    ///< a step, if it is expanded
  bool expands = false;  ///< whether the codes of the item are unpacked first
  int64_t panelColumns;  ///< of which as many at a time
  mlir::Value expanded;  ///< where they are, from then on
  mlir::Value firstStep; ///< the first of them
  Values lineFactors;    ///< of its groups of rows, if they are those of a line
  // The tokens of a block.
  mlir::Value firstToken;
  int64_t numTokens;
  int64_t partsAtOnce; ///< as many as have registers
};

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_PACKEDMATMULKERNEL_H
