// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/LevelDispatch.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

static constexpr llvm::StringLiteral kActiveLevel = "tercet_active_level";

/// What the runtime calls.
static SmallVector<LLVM::LLVMFuncOp> getEntryPoints(ModuleOp level) {
  SmallVector<LLVM::LLVMFuncOp> functions;
  for (auto function : level.getOps<LLVM::LLVMFuncOp>())
    if (!function.isExternal() &&
        function.getLinkage() == LLVM::Linkage::External)
      functions.push_back(function);
  return functions;
}

/// NAME(arguments) { switch (tercet_active_level) { case 1: return NAME.B(...);
/// ... default: return NAME.A(...); } }
static void buildDispatcher(ImplicitLocOpBuilder &b, LLVM::LLVMFuncOp entry,
                            llvm::ArrayRef<std::string> suffixes) {
  OpBuilder::InsertionGuard guard(b);
  LLVM::LLVMFunctionType type = entry.getFunctionType();
  auto function = LLVM::LLVMFuncOp::create(b, entry.getSymName(), type);
  Block *start = function.addEntryBlock(b);
  SmallVector<Block *> blocks;
  SmallVector<int32_t> numbers;
  for (auto [number, suffix] : llvm::enumerate(suffixes)) {
    b.setInsertionPoint(function);
    auto target =
        LLVM::LLVMFuncOp::create(b, (entry.getSymName() + suffix).str(), type);
    blocks.push_back(
        b.createBlock(&function.getBody(), function.getBody().end()));
    numbers.push_back(number);
    auto call = LLVM::CallOp::create(b, target, start->getArguments());
    LLVM::ReturnOp::create(b, call.getResults());
  }
  b.setInsertionPointToEnd(start);
  Value level = LLVM::LoadOp::create(
      b, b.getI32Type(),
      LLVM::AddressOfOp::create(b, LLVM::LLVMPointerType::get(b.getContext()),
                                kActiveLevel));
  SmallVector<ValueRange> operands(blocks.size() - 1);
  LLVM::SwitchOp::create(b, level, blocks[0], ValueRange(),
                         ArrayRef(numbers).drop_front(),
                         ArrayRef(blocks).drop_front(), operands);
}

OwningOpRef<ModuleOp>
tercet::buildLevelDispatch(ModuleOp level,
                           llvm::ArrayRef<std::string> suffixes) {
  ImplicitLocOpBuilder b(level.getLoc(), level.getContext());
  OwningOpRef<ModuleOp> dispatch = ModuleOp::create(b, b.getLoc());
  b.setInsertionPointToEnd(dispatch->getBody());
  auto active = LLVM::GlobalOp::create(b, b.getI32Type(), /*isConstant=*/false,
                                       LLVM::Linkage::External, kActiveLevel,
                                       Attribute());
  active.setVisibility_(LLVM::Visibility::Hidden);
  for (LLVM::LLVMFuncOp entry : getEntryPoints(level))
    buildDispatcher(b, entry, suffixes);
  return dispatch;
}

void tercet::renameLevel(ModuleOp level, llvm::StringRef suffix) {
  for (LLVM::LLVMFuncOp entry : getEntryPoints(level))
    entry.setSymName((entry.getSymName() + suffix).str());
}
