// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every option of `tercet`, once: flag, values and help come from here. The
// visibility of an option is the set of subcommands that take it
// (CommandLine.h). A value written "a|b|c" is checked against the list.

include "llvm/Option/OptParser.td"

def CompileVis : OptionVisibility;
def InspectVis : OptionVisibility;
def VerifyVis : OptionVisibility;
def RunVis : OptionVisibility;
def BenchVis : OptionVisibility;
def TargetsVis : OptionVisibility;
def TuneVis : OptionVisibility;

defvar AllVis = [CompileVis, InspectVis, VerifyVis, RunVis, BenchVis, TargetsVis,
                 TuneVis];

/// --name=VALUE and --name VALUE.
multiclass Value<string name, string value, string help,
                 list<OptionVisibility> visibility> {
  def NAME : Joined<["--"], name # "=">, MetaVarName<value>, HelpText<help>,
             Visibility<visibility>;
  def NAME # _separate : Separate<["--"], name>,
                         Alias<!cast<Option>(NAME)>, Visibility<visibility>;
}

class Switch<string name, string help, list<OptionVisibility> visibility>
    : Flag<["--"], name>, HelpText<help>, Visibility<visibility>;

def help : Switch<"help", "Show this text", AllVis>;
def help_short : Flag<["-"], "h">, Alias<help>, Visibility<AllVis>;

def output : JoinedOrSeparate<["-"], "o">, MetaVarName<"OUT">,
             HelpText<"Write to OUT; - is stdout for text">,
             Visibility<[CompileVis]>;

defm target : Value<"target", "TARGET",
    "native (default), BASE[+feature...] or a CPU name; see `tercet targets`. "
    "Several, with commas, make one artifact that picks its level at start",
    [CompileVis, RunVis, VerifyVis, TuneVis]>;
defm emit : Value<"emit", "exe|lib|obj|asm|llvm|mlir",
    "What to make: an executable (default), a shared library with a C header, "
    "or the compiled code alone", [CompileVis]>;
defm compile_to : Value<"compile-to", "PHASE",
    "Stop after this phase and write its MLIR", [CompileVis]>;
defm packing : Value<"packing", "auto|i2|t3|t5|l3",
    "How ternary weights are stored: 2, 1.667, 1.6 or 1.778 bits each; auto "
    "decides by CPU and size", [CompileVis, RunVis, VerifyVis]>;
defm head : Value<"head", "auto|bf16|i8|q6|q4|screened",
    "Precision of the output head: auto (or bf16) is the file's, exact; i8, q6 "
    "and q4 read 8.25, 6.25 and 4.5 bits a weight and round logits (see verify); "
    "screened reads the i8 copy and the exact rows that may win: exact, 1.5 times "
    "the memory of bf16",
    [CompileVis, RunVis, VerifyVis, TuneVis]>;
defm context : Value<"context", "N",
    "Positions of the KV cache; default: what the model was made for, beyond "
    "which it is untrained",
    [CompileVis, RunVis, VerifyVis]>;
defm kv : Value<"kv", "f32|bf16|int8",
    "What the KV cache stores; f32 (default) is exact, docs/numerics.md says how "
    "the others round", [CompileVis, RunVis, VerifyVis]>;
defm tune : Value<"tune", "db|quick|off",
    "Where kernel choices come from: what tercet tune has measured on this CPU "
    "(default), the same after 10 s of tuning what is missing, or a prediction",
    [CompileVis, RunVis]>;
defm db : Value<"db", "FILE",
    "The tuning database; default: tercet/tuning.db in XDG_CACHE_HOME or ~/.cache",
    [CompileVis, RunVis, TuneVis]>;
def explain : Switch<"explain", "Say why each matmul got its kernel",
                     [CompileVis]>;
defm threads : Value<"threads", "N",
    "compile: threads that pack weights; default: all CPUs, at most 8. tune: "
    "threads that kernels run on; default: all CPUs", [CompileVis, TuneVis]>;
def timing : Switch<"timing", "Show where compile time went", [CompileVis]>;
defm print_after : Value<"mlir-print-ir-after", "PHASE",
    "Print the module to stderr after this phase", [CompileVis]>;

defm tokens : Value<"tokens", "ID,ID...",
    "The sequence to compare on; default: 32 fixed ids", [VerifyVis]>;
defm perplexity : Value<"perplexity", "FILE",
    "Say what --head costs: the perplexity of a text with it and with bf16",
    [VerifyVis]>;
defm against : Value<"against", "DIRECTORY",
    "Compare op by op with a dump of another implementation", [VerifyVis]>;

defm shapes : Value<"shapes", "MxK*N,...",
    "Matmuls of M rows and K columns, N of each in the model (default: 1), instead "
    "of those of a MODEL", [TuneVis]>;
defm budget : Value<"budget", "SECONDS",
    "Time to tune what was not tuned yet; default: 30s", [TuneVis]>;

def json : Switch<"json", "One JSON object on stdout",
                  [InspectVis, VerifyVis, TargetsVis, TuneVis]>;
