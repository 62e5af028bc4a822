// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Imports a model and prints the module: the frontends without the compiler.

#include "compiler/Inspect/CheckParameters.h"
#include "compiler/Inspect/InspectModel.h"
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
static cl::opt<bool> check("check", cl::desc("Check all values as well"));
static cl::opt<bool> inspect("inspect", cl::desc("Print a report instead"));
static cl::opt<bool> printJSON("json", cl::desc("Report as JSON"));

static cl::opt<bool> printLocations("locations",
                                    cl::desc("Print names of nodes"));

static Error run() {
  if (inspect)
    return tercet::inspectModel(
        model, printJSON, [](mlir::ModuleOp) { return Error::success(); },
        outs());
  mlir::MLIRContext mlirContext;
  Expected<mlir::OwningOpRef<mlir::ModuleOp>> module =
      tercet::importModel(mlirContext, model, {context});
  if (!module)
    return module.takeError();
  if (check)
    if (Error error = tercet::checkParameters(**module))
      return error;
  mlir::OpPrintingFlags flags;
  flags.elideLargeResourceString().enableDebugInfo(printLocations);
  (*module)->print(outs(), flags);
  return Error::success();
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv,
                              "Imports a model and prints its module\n");
  Error error = run();
  if (!error)
    return 0;
  WithColor::error() << toString(std::move(error)) << "\n";
  return 1;
}
