// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bytes as an .onnx file: the answer is an error or a module that verifies but
// for nodes that are not as ONNX defines their operators, which it names. No
// file lies beside it.

#include "frontends/ONNX/ImportONNX.h"
#include "frontends/ONNX/ONNXReader.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"

using namespace llvm;
using namespace tercet;

static bool verifiesButForNodes(mlir::ModuleOp module) {
  std::string said;
  mlir::ScopedDiagnosticHandler handler(
      module.getContext(),
      [&](mlir::Diagnostic &diagnostic) { said += diagnostic.str(); });
  return succeeded(mlir::verify(module)) ||
         StringRef(said).contains(" (node '");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  StringRef bytes(reinterpret_cast<const char *>(data), size);
  auto reader = tercet::onnx::ONNXReader::parse(
      MemoryBuffer::getMemBufferCopy(bytes, "/nonexistent/fuzz.onnx"));
  if (!reader)
    return consumeError(reader.takeError()), 0;
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> module =
      importONNX(context, *reader);
  if (!module)
    return consumeError(module.takeError()), 0;
  if (!verifiesButForNodes(**module))
    __builtin_trap();
  return 0;
}
