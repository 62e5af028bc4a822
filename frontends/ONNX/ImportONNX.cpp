// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/ImportONNX.h"
#include "dialect/ONNX/ONNX.h"
#include "frontends/ONNX/GraphImporter.h"

#include "mlir/IR/MLIRContext.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::onnx;
using llvm::Expected;

Expected<OwningOpRef<ModuleOp>> tercet::importONNX(MLIRContext &context,
                                                   ONNXReader &reader) {
  context.loadDialect<ONNXDialect, func::FuncDialect>();
  Expected<FunctionTable> functions = FunctionTable::create(reader);
  if (!functions)
    return functions.takeError();
  return GraphImporter(context, reader, *functions).run();
}

Expected<OwningOpRef<ModuleOp>> tercet::importONNX(MLIRContext &context,
                                                   StringRef path) {
  Expected<ONNXReader> reader = ONNXReader::open(path);
  if (!reader)
    return reader.takeError();
  return importONNX(context, *reader);
}
