// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One-thread times of generated kernels at the shapes of BitNet b1.58 2B4T, as
// a Google Benchmark program:
//
//   KernelBench [--target=TARGET] --benchmark_filter=REGEX
//               --benchmark_repetitions=9
//               --benchmark_enable_random_interleaving
//
// Names start with what is measured: machine, attention, prefill, head, codes,
// gemv, gemm, rows, intrinsics. CPU time of this thread, so that a busy machine
// distorts caches and memory only.

#include "tests/bench/Bench.h"

#include "benchmark/benchmark.h"
#include "llvm/Support/raw_ostream.h"

using namespace tercet;
using namespace tercet::bench;

int main(int argc, char **argv) {
  benchmark::Initialize(&argc, argv);
  llvm::StringRef text = "native";
  if (argc > 1 && llvm::StringRef(argv[1]).starts_with("--target=")) {
    text = llvm::StringRef(argv[1]).drop_front(strlen("--target="));
    argv[1] = argv[0];
    ++argv, --argc;
  }
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 1;
  llvm::Expected<TargetSpec> target = parseTarget(text);
  if (!target) {
    llvm::errs() << "KernelBench: " << llvm::toString(target.takeError())
                 << "\n";
    return 1;
  }
  if (KernelJIT::prepareFor(target->text) != KernelJIT::Support::Native) {
    llvm::errs() << "KernelBench: this machine lacks a feature of "
                 << target->text << "\n";
    return 1;
  }
  setenv("TERCET_TEST_TARGET", target->text.c_str(), /*overwrite=*/1);
  benchmark::AddCustomContext("target", target->text);

  addMachine();
  addAttention();
  addHeads();
  addMatmuls(*target);
  addRows();
  addIntrinsics(*target);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::ClearRegisteredBenchmarks(); // JITs must not outlive LLVM
  benchmark::Shutdown();
}
