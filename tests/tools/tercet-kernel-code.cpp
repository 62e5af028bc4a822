// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tercet-test-kernel-code TARGET PACKING TOKENS: prints the assembly of a
// 2560x2560 matmul for so many tokens, with the schedule that is selected.

#include "tests/pipeline/KernelCode.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

int main(int argc, char **argv) {
  int64_t tokens;
  std::optional<ternary::Packing> packing;
  if (argc == 4)
    packing = ternary::symbolizePacking(argv[2]);
  if (!packing || !to_integer(argv[3], tokens) || tokens < 1 ||
      tokens > MatmulCode::kMaxTokens) {
    WithColor::error() << "usage: tercet-test-kernel-code TARGET PACKING "
                          "TOKENS\n";
    return 1;
  }
  if (Error error = parseTarget(argv[1]).takeError()) {
    WithColor::error() << toString(std::move(error)) << '\n';
    return 1;
  }
  MatmulCode code(argv[1], /*rows=*/2560, /*columns=*/2560);
  outs() << code.emit(code.selected(*packing), tokens);
}
