// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The compiler's command: one table of subcommands. Errors are one line on
// stderr and exit status 1.

#include "compiler/tools/Commands.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/PrettyStackTrace.h"
#include "llvm/Support/raw_ostream.h"
#include <csignal>

using namespace llvm;
using namespace tercet;

static const Command kCommands[] = {
    {"compile", CompileVis, "Compile a model into an executable or a library",
     "MODEL -o OUT [options]",
     "  tercet compile models/bitnet-2b -o bitnet\n"
     "  tercet compile models/bitnet-2b.gguf -o bitnet\n"
     "      one self-contained executable for this machine's CPU\n"
     "  tercet compile models/bitnet-2b -o bitnet --target=x86-64-v3\n"
     "      for any x86 CPU with AVX2\n"
     "  tercet compile models/bitnet-2b -o libbitnet.so --emit=lib\n"
     "      a shared library; its C API is written beside it as tercet.h\n"
     "  tercet compile models/bitnet-2b --compile-to=quantise\n"
     "      the module after one phase, as MLIR on stdout\n",
     1, 1, false, runCompile},
    {"inspect", InspectVis, "Show what a model is and what would be compiled",
     "MODEL [options]",
     "  tercet inspect models/bitnet-2b\n"
     "  tercet inspect models/bitnet-2b --json\n",
     1, 1, false, runInspect},
    {"verify", VerifyVis,
     "Compare layer by layer with the reference interpreter", "MODEL [OUT]",
     "  tercet verify models/bitnet-2b\n"
     "  tercet verify models/bitnet-2b ./bitnet\n",
     1, 2, false, runVerify},
    {"tune", TuneVis, "Measure kernels on this CPU and store the winners",
     "MODEL|--shapes MxK*N,... [options] | export FILE | import FILE",
     "  tercet tune models/bitnet-2b\n"
     "  tercet tune --shapes 3840x2560*30,2560x2560*30 --budget 10s --json\n"
     "  tercet tune export xeon.json\n"
     "      what was measured, for `tercet tune import` on machines with this "
     "CPU\n",
     0, 2, false, runTune},
    {"bench", BenchVis, "Measure a compiled model: prefill, decode, roofline",
     "OUT [options of OUT]",
     "  tercet bench ./bitnet\n"
     "  tercet bench ./bitnet --prompt 512 --gen 128 --json\n"
     "  tercet bench ./bitnet --report speed.html\n",
     1, 1, true, runBench},
    {"run", RunVis, "Compile into the cache, if need be, and run",
     "[options] MODEL [options of the executable]",
     "  tercet run models/bitnet-2b -p \"Once upon a time\" -n 50\n"
     "  tercet run --target=x86-64-v3 models/bitnet-2b --chat\n",
     1, 1, true, runRun},
    {"targets", TargetsVis, "List backends, ISA levels and this CPU",
     "[options]",
     "  tercet targets\n"
     "  tercet targets --json\n",
     0, 0, false, runTargets},
};

static Error runCommandLine(ArrayRef<const char *> argv) {
  StringRef first = argv.empty() ? "--help" : argv.front();
  if (first == "--help" || first == "-h" || first == "help") {
    printHelp(kCommands);
    return Error::success();
  }
  if (first == "--version") {
    outs() << "tercet " TERCET_VERSION " (LLVM " LLVM_VERSION_STRING ")\n";
    return Error::success();
  }
  const Command *command =
      find_if(kCommands, [&](const Command &c) { return c.name == first; });
  if (command == std::end(kCommands)) {
    SmallVector<StringRef> names(
        map_range(kCommands, [](const Command &c) { return c.name; }));
    return createStringError("unknown command '" + first + "'" +
                             suggest(first, names));
  }
  Expected<Arguments> arguments = Arguments::parse(*command, argv.drop_front());
  if (!arguments)
    return arguments.takeError();
  if (arguments->has(OPT_help)) {
    printHelp(*command);
    return Error::success();
  }
  return command->run(*arguments);
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  setBugReportMsg("tercet has crashed: please report it with this trace\n");
  std::signal(SIGXFSZ, SIG_IGN); // a file above the limit is an error as others
  Error error = runCommandLine(ArrayRef<const char *>(argv, argc).drop_front());
  outs().flush();
  if (!error && outs().has_error())
    error = createStringError("cannot write to stdout: " +
                              outs().error().message());
  outs().clear_error();
  if (!error)
    return 0;
  handleAllErrors(std::move(error), [](const ErrorInfoBase &info) {
    errs() << "tercet: error: " << info.message() << "\n";
  });
  return 1;
}
