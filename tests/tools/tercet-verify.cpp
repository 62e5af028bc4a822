// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet verify` without the compiler: the import alone, against a dump, or
// against an executable.

#include "compiler/Reference/Verify.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/WithColor.h"

using namespace llvm;

static cl::opt<std::string> model(cl::Positional, cl::desc("MODEL"),
                                  cl::Required);
static cl::opt<std::string> artifact(cl::Positional, cl::desc("[OUT]"));
static cl::opt<std::string> against("against", cl::desc("Directory of a dump"));
static cl::list<int32_t> tokens("tokens", cl::CommaSeparated,
                                cl::desc("Token ids"));
static cl::opt<bool> json("json", cl::desc("Report as JSON"));

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::ParseCommandLineOptions(argc, argv, "Verifies a model\n");
  tercet::VerifyOptions options;
  options.model = model;
  options.artifact = artifact;
  options.dump = against;
  options.tokens.assign(tokens.begin(), tokens.end());
  options.json = json;
  if (Error error = tercet::verify(options, outs())) {
    WithColor::error() << toString(std::move(error)) << "\n";
    return 1;
  }
}
