// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Logits of a model by the reference interpreter, as `OUT --logits` writes
// them.

#include "compiler/Reference/Interpreter.h"
#include "compiler/Reference/Npy.h"
#include "frontends/Import.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/WithColor.h"

using namespace llvm;
using namespace tercet;

static cl::opt<std::string> model(cl::Positional, cl::desc("MODEL"),
                                  cl::Required);
static cl::list<int32_t> tokens("tokens", cl::CommaSeparated, cl::Required,
                                cl::desc("Token ids"));
static cl::opt<std::string> logits("logits", cl::Required,
                                   cl::desc("The .npy file to write"));
static cl::opt<std::string> kv("kv", cl::init("f32"),
                               cl::desc("What the KV cache stores"));
static cl::opt<unsigned> chunk("chunk", cl::desc("Tokens a step (0: all)"));

static Error run() {
  mlir::MLIRContext context;
  auto module = importModel(
      context, model, {.kv = *ternary::symbolizeKVElement(kv.getValue())});
  if (!module)
    return module.takeError();
  ParameterReader reader;
  reference::ReferenceModel reference(**module, reader);
  reference::Floats result;
  ArrayRef<int32_t> rest(tokens);
  while (!rest.empty()) {
    ArrayRef<int32_t> step = chunk ? rest.take_front(chunk) : rest;
    rest = rest.drop_front(step.size());
    auto rows = reference.step(step);
    if (!rows)
      return rows.takeError();
    result.shape = {int64_t(tokens.size()), rows->shape[1]};
    append_range(result.data, rows->data);
  }
  return reference::writeNpy(logits, result);
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv, "Logits by the interpreter\n");
  if (Error error = run()) {
    WithColor::error() << toString(std::move(error)) << "\n";
    return 1;
  }
}
