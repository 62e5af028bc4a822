// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/Ternary.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace tercet::ternary;

#include "dialect/Ternary/TernaryDialect.cpp.inc"
#include "dialect/Ternary/TernaryEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialect/Ternary/TernaryAttributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/Ternary/TernaryTypes.cpp.inc"

void TernaryDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/Ternary/TernaryAttributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/Ternary/TernaryTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/Ternary/TernaryOps.cpp.inc"
      >();
}

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Packing packing, int64_t tileRows,
                                 int64_t lanes, int64_t unroll, int64_t tokens,
                                 int64_t prefetch, bool inPlace) {
  bool wholeTiles = packing == Packing::I2
                        ? tileRows == 4 * kRowGroup // four planes a byte
                        : tileRows > 0 && tileRows % kRowGroup == 0;
  if (!wholeTiles)
    return emitError() << "tile_rows = " << tileRows << " is no tile of "
                       << stringifyPacking(packing);
  if (lanes <= 0 || unroll <= 0 || tokens <= 0 || prefetch < 0)
    return emitError() << "lanes, unroll and tokens must be positive, prefetch "
                          "not negative";
  return success();
}

LogicalResult KVCacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t layers, int64_t heads,
                                  int64_t capacity, int64_t headDim,
                                  KVElement) {
  if (layers <= 0 || heads <= 0 || capacity <= 0 || headDim <= 0)
    return emitError() << "sizes of a KV cache must be positive";
  return success();
}
