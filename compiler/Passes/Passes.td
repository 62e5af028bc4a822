// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The project's passes, in the order of the phase table (compiler/Pipeline).

#ifndef TERCET_COMPILER_PASSES_TD
#define TERCET_COMPILER_PASSES_TD

include "mlir/Pass/PassBase.td"

def QuantizeOutputHead : Pass<"quantize-output-head", "::mlir::func::FuncOp"> {
  let summary = "Make every linear a quantized_linear";
  let description = [{
    Not a rewrite that keeps the result: it is what `--head` asks for.
  }];
  let options = [
    Option<"format", "format", "std::string", "\"i8\"", "i8, q6 or q4">
  ];
}

def ScreenOutputHead : Pass<"screen-output-head", "::mlir::ModuleOp"> {
  let summary = "Split the head from @step, with an i8 copy that screens its rows";
  let description = [{
    `@step` returns hidden states instead of logits. `@screen` turns them into
    approximations of the logits, `@head_rows` replaces groups of 16 rows of these
    by the logits themselves (docs/decisions/0008).
  }];
  let dependentDialects = ["::mlir::tensor::TensorDialect"];
}

def FuseBitLinear : Pass<"fuse-bit-linear", "::mlir::func::FuncOp"> {
  let summary = "Make siblings share one quantised input and one matmul";
  let description = [{
    `bit_linear`s of the same input (q/k/v, gate/up) and group size become one with
    several matrices, each keeping its own scales; the results become slices. Row counts
    that are not multiples of 16 are padded the same way.
  }];
  let dependentDialects = ["::mlir::tensor::TensorDialect", "::mlir::arith::ArithDialect"];
}

def FuseElementwise : Pass<"fuse-elementwise", "::mlir::func::FuncOp"> {
  let summary = "Make chains of elementwise ops one";
  let description = [{
    An elementwise `linalg.generic` moves into the one that is its only reader, so that
    what is between them is never stored, as long as that reads each element once: it
    may be a reduction, a transposition, or a window that does not overlap the next. The
    arithmetic stays the same, to the bit. Ops that look at indices or memory stay by
    themselves. Loops of extent 1 are dropped first, so that the innermost one has
    neighbours.
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def SinkTransposes : Pass<"sink-transposes", "::mlir::func::FuncOp"> {
  let summary = "Move transpositions below the ops that can do without them";
  let description = [{
    An elementwise `linalg.generic`, a pool or a maximum reads what a `linalg.transpose`
    reads, and its result is transposed instead, until two transpositions are none: a
    convolution's channels stay innermost up to the next one. Sums of floats stay as
    they are, since their order is that of their operand. The innermost extent has to be
    at least 16, so that vectors are full.
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::tensor::TensorDialect"];
}

def QuantizeWeights : Pass<"quantize-weights", "::mlir::ModuleOp"> {
  let summary = "Replace latent weights by trits and their absmean scale";
  let description = [{
    `absmean_quantize` of a parameter becomes a parameter of trits over the same
    bytes, and a constant scale. The bytes stay in the checkpoint.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def LowerBitLinear : Pass<"lower-bit-linear", "::mlir::func::FuncOp"> {
  let summary = "bit_linear = quantize_activations + matmul + rescale";
  let dependentDialects = ["::mlir::tensor::TensorDialect", "::mlir::arith::ArithDialect"];
}

def SelectLayout : Pass<"select-layout", "::mlir::ModuleOp"> {
  let summary = "Give each matmul and the head a packing and a schedule";
  let options = [
    Option<"target", "target", "std::string", "\"native\"", "what to compile for">,
    Option<"packing", "packing", "std::string", "\"auto\"",
           "of ternary weights; auto: what the planner selects">,
    ListOption<"levels", "levels", "std::string",
               "targets that read the same weights, if there are several">
  ];
}

def PackWeights : Pass<"pack-weights", "::mlir::ModuleOp"> {
  let summary = "Place every parameter in the weights section";
  let description = [{
    Parameters become `packed_parameter`s, offsets into the weights section in
    execution order; `matmul` + `rescale` become `packed_matmul`, `linear`
    becomes `packed_linear`, `quantized_linear` becomes `quantize_wide` +
    `packed_quantized_linear`. The bytes are described as pieces that the artifact
    writer asks for; the IR never holds them. Sets `ternary.weights_size` and
    what `--bench` reports on the module.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::tensor::TensorDialect"];
}

def FuseRows : Pass<"fuse-rows", "::mlir::func::FuncOp"> {
  let summary = "Fuse what works on the rows of one batch: gate, norm, quantisation";
  let description = [{
    A row then goes through all of it in a first-level cache, and a result that
    nothing else reads is a row of the worker instead of a buffer.
  }];
  let dependentDialects = ["::tercet::ternary::TernaryDialect"];
}

def PlanMemory : Pass<"plan-memory", "::mlir::ModuleOp"> {
  let summary = "Give the step its C signature and all buffers a place in one arena";
  let description = [{
    Buffers whose live ranges are disjoint share bytes. Sets
    `ternary.arena_size` on the module.
  }];
  let options = [
    Option<"maxStepTokens", "max-step-tokens", "int64_t", "128",
           "capacity of one step, in tokens">
  ];
  let dependentDialects = ["::mlir::memref::MemRefDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::arith::ArithDialect"];
}

def PlanGraph : Pass<"plan-graph", "::mlir::ModuleOp"> {
  let summary = "Give @graph its C signature and its buffers places";
  let description = [{
    Buffers of static size share one arena, which a run allocates; others are
    allocated where they begin and freed after their last use. What leaves its block,
    as the result of a loop or branch does, the runtime frees at the end of the run.
    Results are allocations of their own. No `memref.copy` is left.
  }];
  let dependentDialects = ["::mlir::memref::MemRefDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect"];
}

def OutlineRepeats : Pass<"outline-repeats", "::mlir::ModuleOp"> {
  let summary = "Turn runs of equal layers into one function, called with offsets";
  let description = [{
    Finds consecutive repetitions of the same ops that differ in index constants
    only (weight and arena offsets, layer numbers). The constants that differ
    become arguments.
  }];
}

def AddDotPeak : Pass<"add-dot-peak", "::mlir::ModuleOp"> {
  let summary = "Add the loop that measures the target's peak of dot products";
  let description = [{
    `@dot_peak(iterations)` returns the multiply-accumulates done; --bench
    compares prefill with it in the same run. It works on registers alone, or for
    a matrix unit (`blocks`) on what its second-level cache holds.
  }];
  let options = [
    Option<"target", "target", "std::string", "\"native\"", "what to compile for">
  ];
  let dependentDialects = ["::tercet::ternary::TernaryDialect",
                           "::mlir::func::FuncDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect", "::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect"];
}

def LowerMath : Pass<"lower-math", "::mlir::func::FuncOp"> {
  let summary = "Lower functions of f32 to polynomials, the same bits on every target";
  let description = [{
    exp, log, tanh, erf, sin and their like (docs/numerics.md, "Graphs"), of scalars
    and vectors, and conversions to bf16. Those of f64 stay calls of the C library.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::vector::VectorDialect"];
}

def LowerVectorOps : Pass<"lower-vector-ops", "::mlir::func::FuncOp"> {
  let summary = "Lower unpack, dot and lookup with the target's backend";
  let description = [{
    And `math.fma` of f32 vectors where the target has none: in f64, to the same
    bits.
  }];
  let options = [
    Option<"target", "target", "std::string", "\"native\"", "what to compile for">
  ];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::vector::VectorDialect",
                           "::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect",
                           "::mlir::memref::MemRefDialect"];
}

def OutlineParallel : Pass<"outline-parallel", "::mlir::ModuleOp"> {
  let summary = "Move the body of every parallel loop into a function of its items";
  let description = [{
    What a body needs and can recompute (addresses, constants) is recomputed
    inside; the rest is captured. Estimates the work of an item for the pool, and
    sets `ternary.scratch_size` on the module.
  }];
  let options = [
    Option<"separatesKinds", "separates-kinds", "bool", "false",
           "items of two kinds have a loop for each">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
                           "::mlir::scf::SCFDialect", "::tercet::ternary::TernaryDialect"];
}

def ConvertToLLVM : Pass<"convert-ternary-to-llvm", "::mlir::ModuleOp"> {
  let summary = "Convert everything to the LLVM dialect, with one type converter";
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // TERCET_COMPILER_PASSES_TD
