// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From MODEL to OUT: import, the pipeline, code, link, artifact.

#ifndef TERCET_COMPILER_TOOLS_COMPILEMODEL_H
#define TERCET_COMPILER_TOOLS_COMPILEMODEL_H

#include "compiler/Target/ParseTarget.h"
#include "compiler/tools/CommandLine.h"
#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// In the order of --emit's values.
enum class EmitKind { Exe, Lib, Obj, Asm, Llvm, Mlir };

/// One struct for `compile` and `run`; the fields are options of Options.td.
struct CompileRequest {
  std::string model, output;
  /// With several `levels`, what they have in common, and all their names.
  TargetSpec target;
  /// ISA levels of an artifact, oldest first; empty: `target` alone.
  std::vector<TargetSpec> levels;
  EmitKind emit = EmitKind::Exe;
  std::string compileTo, printAfter;
  std::string packing = "auto", head = "bf16", tune = "db";
  std::string database; // empty: the default one
  int64_t context = 0;  // 0: what the model was made for
  ternary::KVElement kv = ternary::KVElement::F32;
  unsigned threads = 1;
  bool explain = false, timing = false;

  static llvm::Expected<CompileRequest> fromArguments(const Arguments &);

  /// Whether MODEL is an ONNX graph, not a language model.
  bool isGraph() const { return llvm::StringRef(model).ends_with(".onnx"); }
};

/// --head with its default resolved.
std::string getHead(const Arguments &arguments);

llvm::Error compileModel(const CompileRequest &request);

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_COMPILEMODEL_H
