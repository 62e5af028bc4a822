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
