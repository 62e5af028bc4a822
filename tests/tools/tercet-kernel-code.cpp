// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// tercet-test-kernel-code TARGET KERNEL TOKENS: prints the assembly of a kernel
// with the schedule that is selected, of a matmul or head for so many tokens. A
// KERNEL is a packing or a format of codes or bf16 (2560x2560), attention,
// rms_norm or quantize_activations.

#include "tests/pipeline/KernelCode.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/WithColor.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

static std::optional<std::string> emit(StringRef target, StringRef kernel,
                                       int64_t tokens) {
  constexpr int64_t kSize = 2560;
  if (kernel == "bf16")
    return emitBF16Head(target, kSize, kSize, tokens);
  if (kernel == "attention")
    return emitAttention(target);
  if (kernel == "rms_norm")
    return emitRMSNorm(target, kSize);
  if (kernel == "quantize_activations")
    return emitQuantizeActivations(target, kSize);
  if (auto format = ternary::symbolizeCodeFormat(kernel))
    return emitHead(target, *format, kSize, kSize, tokens);
  if (auto packing = ternary::symbolizePacking(kernel)) {
    MatmulCode code(target, kSize, kSize);
    return code.emit(code.selected(*packing), tokens);
  }
  return {};
}

int main(int argc, char **argv) {
  int64_t tokens;
  if (argc != 4 || !to_integer(argv[3], tokens) || tokens < 1 ||
      tokens > MatmulCode::kMaxTokens) {
    WithColor::error()
        << "usage: tercet-test-kernel-code TARGET KERNEL TOKENS\n";
    return 1;
  }
  if (Error error = parseTarget(argv[1]).takeError()) {
    WithColor::error() << toString(std::move(error)) << '\n';
    return 1;
  }
  std::optional<std::string> assembly = emit(argv[1], argv[2], tokens);
  if (!assembly) {
    WithColor::error() << "no kernel '" << argv[2] << "'\n";
    return 1;
  }
  outs() << *assembly;
}
