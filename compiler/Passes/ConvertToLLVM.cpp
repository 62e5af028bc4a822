// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/Pattern.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/FunctionCallUtils.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/Transforms/LoweringPatterns.h"
#include "mlir/Dialect/Vector/Transforms/VectorRewritePatterns.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_CONVERTTOLLVM
#include "compiler/Passes/Passes.h.inc"

namespace {

/// What the runtime calls: @step is tercet_step.
constexpr StringLiteral kExportPrefix = "tercet_";

/// What a converted capture is in the context struct: a memref is its pointer,
/// since all memrefs that cross a function are static.
Value toContextField(OpBuilder &b, Location loc, Value original,
                     Value converted) {
  if (isa<MemRefType>(original.getType()))
    return MemRefDescriptor(converted).alignedPtr(b, loc);
  return converted;
}

/// ternary.parallel_for @body(captures) becomes a struct of the captures on the
/// stack and a call of tercet_parallel_for with a trampoline that unpacks it.
struct ConvertParallelFor : ConvertOpToLLVMPattern<ternary::ParallelForOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;

  LogicalResult matchAndRewrite(ternary::ParallelForOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &b) const override {
    Location loc = op.getLoc();
    MLIRContext *context = op.getContext();
    auto module = op->getParentOfType<ModuleOp>();
    auto pointer = LLVM::LLVMPointerType::get(context);
    Type i64 = b.getI64Type(), none = LLVM::LLVMVoidType::get(context);

    SmallVector<Value> fields;
    for (auto [original, converted] :
         llvm::zip(op.getCaptures(), adaptor.getCaptures()))
      fields.push_back(toContextField(b, loc, original, converted));
    auto contextType = LLVM::LLVMStructType::getLiteral(
        context, llvm::to_vector(ValueRange(fields).getTypes()));

    // In the entry block: a stack slot once, also when the call is in a loop.
    Value slot;
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(&op->getParentRegion()->front());
      slot = LLVM::AllocaOp::create(b, loc, pointer, contextType,
                                    LLVM::ConstantOp::create(b, loc, i64, 1));
    }
    for (auto [index, field] : llvm::enumerate(fields))
      LLVM::StoreOp::create(
          b, loc, field,
          LLVM::GEPOp::create(b, loc, pointer, contextType, slot,
                              ArrayRef<LLVM::GEPArg>{0, int32_t(index)}));

    auto runtime =
        LLVM::lookupOrCreateFn(b, module, "tercet_parallel_for",
                               {pointer, pointer, pointer, i64, i64}, none);
    if (failed(runtime))
      return failure();
    LLVM::LLVMFuncOp trampoline = createTrampoline(b, op, contextType);
    Value body = LLVM::AddressOfOp::create(b, loc, trampoline);
    b.replaceOpWithNewOp<LLVM::CallOp>(op, *runtime,
                                       ValueRange{adaptor.getPool(), body, slot,
                                                  adaptor.getItems(),
                                                  adaptor.getWork()});
    return success();
  }

  /// void(context, begin, end, scratch), the C type of a body.
  LLVM::LLVMFuncOp createTrampoline(ConversionPatternRewriter &b,
                                    ternary::ParallelForOp op,
                                    LLVM::LLVMStructType contextType) const {
    OpBuilder::InsertionGuard guard(b);
    Location loc = op.getLoc();
    auto module = op->getParentOfType<ModuleOp>();
    auto pointer = LLVM::LLVMPointerType::get(op.getContext());
    Type i64 = b.getI64Type(), none = LLVM::LLVMVoidType::get(op.getContext());
    std::string name = (op.getBody() + ".items").str();
    if (auto existing = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
      return existing;
    b.setInsertionPointToEnd(module.getBody());
    auto function = LLVM::LLVMFuncOp::create(
        b, loc, name,
        LLVM::LLVMFunctionType::get(none, {pointer, i64, i64, pointer}),
        LLVM::Linkage::Internal);
    Block *entry = function.addEntryBlock(b);
    b.setInsertionPointToStart(entry);
    SmallVector<Value> operands;
    for (auto [index, type] : llvm::enumerate(contextType.getBody()))
      operands.push_back(LLVM::LoadOp::create(
          b, loc, type,
          LLVM::GEPOp::create(b, loc, pointer, contextType,
                              entry->getArgument(0),
                              ArrayRef<LLVM::GEPArg>{0, int32_t(index)})));
    operands.append(
        {entry->getArgument(1), entry->getArgument(2), entry->getArgument(3)});
    LLVM::CallOp::create(b, loc, TypeRange(), op.getBody(), operands);
    LLVM::ReturnOp::create(b, loc, ValueRange());
    return function;
  }
};

/// A cache is one pointer; kernels see it as a memref of static strides.
struct ConvertCacheCast : OpConversionPattern<UnrealizedConversionCastOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult matchAndRewrite(UnrealizedConversionCastOp op,
                                OpAdaptor adaptor,
                                ConversionPatternRewriter &b) const override {
    if (op->getNumOperands() != 1 || op->getNumResults() != 1 ||
        !isa<ternary::KVCacheType>(op.getOperand(0).getType()))
      return failure();
    Location loc = op.getLoc();
    auto type = cast<MemRefType>(op.getResult(0).getType());
    auto descriptor =
        MemRefDescriptor::poison(b, loc, getTypeConverter()->convertType(type));
    Value pointer = adaptor.getInputs()[0];
    descriptor.setAllocatedPtr(b, loc, pointer);
    descriptor.setAlignedPtr(b, loc, pointer);
    descriptor.setConstantOffset(b, loc, 0);
    int64_t stride = 1;
    for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
      descriptor.setConstantStride(b, loc, dim, stride);
      if (type.isDynamicDim(dim))
        continue; // the number of slots: nobody asks
      descriptor.setConstantSize(b, loc, dim, type.getDimSize(dim));
      stride *= type.getDimSize(dim);
    }
    b.replaceOp(op, Value(descriptor));
    return success();
  }
};

/// memref.alloc and memref.dealloc are the runtime's.
struct ConvertAlloc : ConvertOpToLLVMPattern<memref::AllocOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;

  LogicalResult matchAndRewrite(memref::AllocOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &b) const override {
    Location loc = op.getLoc();
    SmallVector<Value> sizes, strides;
    Value sizeInBytes;
    getMemRefDescriptorSizes(loc, op.getType(), adaptor.getDynamicSizes(), b,
                             sizes, strides, sizeInBytes);
    auto allocate = LLVM::lookupOrCreateFn(
        b, op->getParentOfType<ModuleOp>(), "tercet_allocate", {b.getI64Type()},
        LLVM::LLVMPointerType::get(op.getContext()));
    if (failed(allocate))
      return failure();
    Value memory =
        LLVM::CallOp::create(b, loc, *allocate, sizeInBytes).getResult();
    b.replaceOp(op, Value(createMemRefDescriptor(loc, op.getType(), memory,
                                                 memory, sizes, strides, b)));
    return success();
  }
};

struct ConvertDealloc : ConvertOpToLLVMPattern<memref::DeallocOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;

  LogicalResult matchAndRewrite(memref::DeallocOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &b) const override {
    auto release = LLVM::lookupOrCreateFn(
        b, op->getParentOfType<ModuleOp>(), "tercet_free",
        {LLVM::LLVMPointerType::get(op.getContext())},
        LLVM::LLVMVoidType::get(op.getContext()));
    if (failed(release))
      return failure();
    Value memory =
        MemRefDescriptor(adaptor.getMemref()).allocatedPtr(b, op.getLoc());
    b.replaceOpWithNewOp<LLVM::CallOp>(op, *release, memory);
    return success();
  }
};

/// cf.assert ends the run, which tercet_fail does not return from.
struct ConvertAssert : ConvertOpToLLVMPattern<cf::AssertOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;

  LogicalResult matchAndRewrite(cf::AssertOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto module = op->getParentOfType<ModuleOp>();
    auto pointer = LLVM::LLVMPointerType::get(op.getContext());
    auto fail =
        LLVM::lookupOrCreateFn(b, module, "tercet_fail", {pointer},
                               LLVM::LLVMVoidType::get(op.getContext()));
    if (failed(fail))
      return failure();
    Block *before = op->getBlock();
    Block *after = b.splitBlock(before, std::next(op->getIterator()));
    Block *failing = b.createBlock(after);
    Value message = createMessage(b, module, loc, op.getMsg());
    LLVM::CallOp::create(b, loc, *fail, message);
    LLVM::UnreachableOp::create(b, loc);
    b.setInsertionPointToEnd(before);
    b.replaceOpWithNewOp<LLVM::CondBrOp>(op, adaptor.getArg(), after, failing);
    return success();
  }

  /// A zero-terminated global; equal messages are one.
  static Value createMessage(OpBuilder &b, ModuleOp module, Location loc,
                             StringRef text) {
    std::string bytes = text.str() + '\0', name = "message: " + text.str();
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(module.getBody());
      LLVM::GlobalOp::create(
          b, loc, LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size()),
          /*isConstant=*/true, LLVM::Linkage::Private, name,
          b.getStringAttr(bytes));
    }
    return LLVM::AddressOfOp::create(
        b, loc, LLVM::LLVMPointerType::get(b.getContext()), name);
  }
};

struct ConvertToLLVM : impl::ConvertToLLVMBase<ConvertToLLVM> {
  /// Vector ops that the conversion expects in simpler terms.
  void lowerVectorShapes(MLIRContext *context) {
    RewritePatternSet patterns(context);
    vector::populateVectorBitCastLoweringPatterns(patterns);
    vector::populateVectorMaskOpLoweringPatterns(patterns);
    vector::populateVectorMaskMaterializationPatterns(
        patterns, /*force32BitVectorIndices=*/true);
    vector::populateVectorShapeCastLoweringPatterns(patterns);
    vector::populateVectorInsertExtractStridedSliceTransforms(patterns);
    (void)applyPatternsGreedily(getOperation(), std::move(patterns));
  }

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (function.isPublic())
        function.setSymName((kExportPrefix + function.getSymName()).str());
    lowerVectorShapes(context);
    LowerToLLVMOptions options(context);
    options.useBarePtrCallConv = true;
    LLVMTypeConverter converter(context, options);
    converter.addConversion([&](ternary::KVCacheType) -> Type {
      return LLVM::LLVMPointerType::get(context);
    });
    RewritePatternSet patterns(context);
    cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
    arith::populateArithToLLVMConversionPatterns(converter, patterns);
    index::populateIndexToLLVMConversionPatterns(converter, patterns);
    populateMathToLLVMConversionPatterns(converter, patterns);
    populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
    populateFuncToLLVMConversionPatterns(converter, patterns);
    populateVectorToLLVMConversionPatterns(converter, patterns);
    ub::populateUBToLLVMConversionPatterns(converter, patterns);
    patterns.add<ConvertParallelFor, ConvertAssert>(converter);
    patterns.add<ConvertAlloc, ConvertDealloc>(converter, /*benefit=*/2);
    patterns.add<ConvertCacheCast>(converter, context);

    LLVMConversionTarget target(*context);
    target.addLegalOp<ModuleOp>();
    target.addDynamicallyLegalOp<UnrealizedConversionCastOp>(
        [](UnrealizedConversionCastOp op) {
          return !llvm::any_of(op.getOperandTypes(),
                               llvm::IsaPred<ternary::KVCacheType>);
        });
    if (failed(
            applyFullConversion(getOperation(), target, std::move(patterns))))
      return signalPassFailure();

    getOperation().walk([](LLVM::LLVMFuncOp function) {
      function.setNoUnwind(true);
      if (!function.getBody().empty() &&
          !function.getSymName().starts_with(kExportPrefix))
        function.setLinkage(LLVM::Linkage::Internal);
    });
  }
};

} // namespace
} // namespace tercet
