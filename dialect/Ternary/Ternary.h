// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary dialect: everything a user of it includes.

#ifndef TERCET_DIALECT_TERNARY_TERNARY_H
#define TERCET_DIALECT_TERNARY_TERNARY_H

#include "dialect/Ternary/CodeFormat.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialect/Ternary/TernaryDialect.h.inc"
#include "dialect/Ternary/TernaryEnums.h.inc"

namespace tercet::ternary {

/// How kernels read packed weights; LayoutAttr says what each field means.
struct Schedule {
  int64_t lanes = 16, unroll = 1, tokens = 1, prefetch = 0, chain = 1;
  bool inPlace = false, planeMajor = false;
  int64_t parts = 0;
  bool blocks = false;
  int64_t streams = 1;

  bool operator==(const Schedule &) const = default;
};

/// Bytes that hold the weights of `rows` rows by `columns` columns. The columns
/// of trits are `steps` times as many as one vector of codes has of each plane.
struct Cell {
  int64_t rows, columns, bytes, steps = 1;

  /// Bytes of the first cells, which hold `columns` columns: of the last one
  /// what its steps need.
  int64_t getBytes(int64_t columns) const;
};

/// Of an op each row of whose results depends on the same row of the operands
/// that have rows, the first of them, and on nothing else.
template <typename ConcreteOp>
class WorksOnRows : public mlir::OpTrait::TraitBase<ConcreteOp, WorksOnRows> {};

} // namespace tercet::ternary

#define GET_ATTRDEF_CLASSES
#include "dialect/Ternary/TernaryAttributes.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/Ternary/TernaryTypes.h.inc"
#define GET_OP_CLASSES
#include "dialect/Ternary/TernaryOps.h.inc"

namespace tercet::ternary {

/// Whether a packing is one of trits, or of floats in blocks.
bool isPackingOfTrits(Packing packing);
bool isPackingOfBlocks(Packing packing);

/// Fused matrices start at multiples of this many rows, so that a vector of 16
/// rows never mixes two weight scales.
inline constexpr int64_t kRowGroup = 16;

/// Attention's probabilities below exp of this are 0 (docs/decisions/0017).
inline constexpr float kLeastExponent = -44;

/// int32 accumulation of unshifted 2-bit codes is exact up to this K.
inline constexpr int64_t kMaxK = 131072;

/// Longest chain of dot products in i16. A code c = w + 1 is at most 2 and q at
/// least -128 and at most 127: a pair of products is -512..508, 64 of them
/// -32768..32512.
inline constexpr int64_t kMaxChain = 64;

/// Longest chain of cells of l3 in i16. An entry of a table is at most 3 * 128
/// either way, and a cell adds three of them: 28 cells are -32256..32256.
inline constexpr int64_t kMaxTableChain = 28;

/// Columns of a panel of `dot_block`: what a matrix unit multiplies at once.
inline constexpr int64_t kPanelColumns = 64;

/// Tables of so many bytes are read from caches, also by two cores at a time,
/// and serve enough tokens that reading the weights anew for the next ones is
/// hidden.
inline constexpr int64_t kTablesSize = 2 << 20;

/// The trits w_p of a number of t3 or l3: v = sum_p w_p 3^p is `magnitude` or
/// minus that.
std::array<int8_t, 3> getT3Trits(uint8_t magnitude, bool isNegative);

/// The trits w_p of a byte of t5. With u = w_0 + 3 w_1 + 9 w_2 + 27 w_3 it is
/// |u| / 2 + 21 (w_4 + 1), plus 64 if u is odd, plus 128 if it is negative.
std::array<int8_t, 5> getT5Trits(uint8_t byte);

/// First column of each fused matrix, and one past the last matrix's columns.
llvm::SmallVector<int64_t> getColumnOffsets(llvm::ArrayRef<int64_t> rows);

} // namespace tercet::ternary

#endif // TERCET_DIALECT_TERNARY_TERNARY_H
