// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Imports a model and prints the module: the frontends without the compiler.

#include "frontends/Import.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/WithColor.h"

using namespace llvm;

static cl::opt<std::string> model(cl::Positional, cl::desc("MODEL"),
                                  cl::Required);
static cl::opt<int64_t> context("context",
                                cl::desc("Positions (0: the model's own)"));

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv,
                              "Imports a model and prints its module\n");
  mlir::MLIRContext mlirContext;
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> module =
      tercet::importModel(mlirContext, model, {context});
  if (!module) {
    WithColor::error() << toString(module.takeError()) << "\n";
    return 1;
  }
  (*module)->print(outs());
}
