// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every row of the phase table: it can be the last one, and its verifier
// refuses what breaks its invariant.

#include "compiler/Pipeline/Pipeline.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace tercet;

namespace {

class PhasesTest : public testing::Test {
protected:
  PhasesTest() : context(makeRegistry()) { context.loadAllAvailableDialects(); }

  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registerPipelineDialects(registry);
    return registry;
  }

  llvm::Expected<CompiledModel> compile(OwningOpRef<ModuleOp> module,
                                        llvm::StringRef phase) {
    CompileOptions options;
    options.target = llvm::cantFail(parseTarget("x86-64-v3"));
    options.maxStepTokens = 8;
    options.compileTo = phase;
    return runPipeline(std::move(module), options, reader);
  }

  OwningOpRef<ModuleOp> parseTinyModel() {
    return parseSourceFile<ModuleOp>(TERCET_TINY_MODEL, &context);
  }

  MLIRContext context;
  ParameterReader reader;
};

} // namespace

TEST_F(PhasesTest, EveryPhaseCanBeTheLast) {
  for (const Phase &phase : getPhases()) {
    auto model = compile(parseTinyModel(), phase.name);
    ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
    EXPECT_TRUE(succeeded(verify(*model->module))) << phase.name.str();
    EXPECT_TRUE(succeeded(phase.verify(*model->module))) << phase.name.str();
    EXPECT_FALSE(phase.invariant.empty()) << phase.name.str();
  }
}

TEST_F(PhasesTest, ACompiledModelKnowsItsSizes) {
  CompiledModel model = llvm::cantFail(compile(parseTinyModel(), ""));
  EXPECT_EQ(model.vocabSize, 40u);
  EXPECT_EQ(model.context, 64u);
  EXPECT_EQ(model.numLayers, 2u);
  EXPECT_EQ(model.maxStepTokens, 8u);
  EXPECT_EQ(model.ternaryWeights, 15360u);
  // Keys and values of two layers, and a block more, 64 positions, 16 floats.
  EXPECT_EQ(model.kvSlotSize, (2u * 2 + 1) * 64 * 16 * sizeof(float));
  EXPECT_GT(model.arenaSize, 0u);
  EXPECT_GT(model.scratchSize, 0u);
  // The pieces fill the section, but for what aligns them.
  uint64_t end = 0;
  for (const WeightPiece &piece : model.weights) {
    EXPECT_GE(piece.offset, end);
    EXPECT_LT(piece.offset, end + 64);
    end = piece.offset + piece.size;
    std::vector<uint8_t> bytes(piece.size);
    EXPECT_FALSE(bool(piece.write(bytes)));
  }
  EXPECT_LE(end, model.weightsSize);
  EXPECT_LT(model.weightsSize, end + 64);
}

TEST_F(PhasesTest, AnErrorNamesItsPhase) {
  auto model = compile(parseSourceString<ModuleOp>("module {}", &context), "");
  ASSERT_FALSE(bool(model));
  EXPECT_EQ(llvm::toString(model.takeError()),
            "phase 'import': expected a function @step or @graph");
}

TEST_F(PhasesTest, VerifiersRefuse) {
  struct {
    const char *phase, *module, *message;
  } cases[] = {
      {"import", "module {}", "expected a function @step"},
      {"import", "func.func @step(%x: memref<4xi32>) { return }",
       "expected tensors and a KV cache"},
      {"lower-onnx",
       R"(func.func @graph(%x: tensor<4xf32>) {
            "onnx.Relu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
            return
          })",
       "must be gone after 'lower-onnx'"},
      {"fuse",
       R"(func.func @f(%x: tensor<2x4xf32>, %w: tensor<3x4xi2>, %g: f32,
                       %y: tensor<2x3xf32>) {
            ternary.bit_linear ins(%x, %w scales %g : tensor<2x4xf32>, tensor<3x4xi2>)
                outs(%y : tensor<2x3xf32>) -> tensor<2x3xf32>
            return
          })",
       "not a multiple of 16"},
      {"quantise",
       R"(func.func @f(%x: tensor<2x4xf32>, %w: tensor<16x4xi2>, %g: f32,
                       %y: tensor<2x16xf32>) {
            ternary.bit_linear ins(%x, %w scales %g : tensor<2x4xf32>, tensor<16x4xi2>)
                outs(%y : tensor<2x16xf32>) -> tensor<2x16xf32>
            return
          })",
       "must be gone after 'quantise'"},
      {"quantise",
       R"(func.func @f(%w: tensor<16x4xf32>) {
            ternary.absmean_quantize %w : tensor<16x4xf32> -> tensor<16x4xi2>
            return
          })",
       "must be gone after 'quantise'"},
      {"select-layout",
       R"(func.func @f(%q: tensor<2x4xi8>, %w: tensor<16x4xi2>, %y: tensor<2x16xi32>) {
            ternary.matmul ins(%q, %w : tensor<2x4xi8>, tensor<16x4xi2>)
                outs(%y : tensor<2x16xi32>) -> tensor<2x16xi32>
            return
          })",
       "has no layout"},
      {"pack-weights",
       "ternary.parameter @w : tensor<2xf32> = dense<1.0> : tensor<2xf32>",
       "must be gone after 'pack-weights'"},
      {"bufferise",
       "func.func @f(%n: index) { tensor.empty(%n) : tensor<?xf32>\n return }",
       "has a tensor result"},
      {"plan-memory",
       "func.func @step() { memref.alloc() : memref<4xf32>\n return }",
       "must be gone after 'plan-memory'"},
      {"plan-memory",
       R"(func.func @f(%a: memref<4xf32>) {
            memref.copy %a, %a : memref<4xf32> to memref<4xf32>
            return
          })",
       "must be gone after 'plan-memory'"},
      {"lower-kernels",
       R"(func.func @f(%x: memref<2x4xf32>, %rows: memref<2xi32>) {
            ternary.gather_rows ins(%x, %rows : memref<2x4xf32>, memref<2xi32>)
                outs(%x : memref<2x4xf32>)
            return
          })",
       "has no kernel"},
      {"lower-kernels",
       R"(!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 8, head_dim = 4>
          func.func @f(%k: memref<2x4xf32>, %p: memref<2xi32>, %c: !cache) {
            %l = arith.constant 0 : index
            ternary.kv_update %k, %k, %p, %p into %c layer %l
              : memref<2x4xf32>, memref<2x4xf32>, memref<2xi32>, memref<2xi32>, !cache
            return
          })",
       "has no kernel"},
      {"outline-parallel",
       R"(func.func @f(%n: index) {
            scf.parallel (%i) = (%n) to (%n) step (%n) {
            }
            return
          })",
       "must be gone after 'outline-parallel'"},
      {"outline-parallel",
       "func.func @f() { ternary.worker_scratch : memref<4xf32>\n return }",
       "must be gone after 'outline-parallel'"},
      {"lower-vectors",
       R"(func.func @f(%v: vector<16xi8>) {
            ternary.unpack %v plane 1 : vector<16xi8>
            return
          })",
       "must be gone after 'lower-vectors'"},
      {"to-llvm", "func.func @f() { return }", "is not of the LLVM dialect"},
  };
  for (auto [name, text, message] : cases) {
    std::string diagnostics;
    ScopedDiagnosticHandler handler(
        &context, [&](Diagnostic &d) { diagnostics += d.str(); });
    auto module = parseSourceString<ModuleOp>(text, &context);
    ASSERT_TRUE(module) << text << diagnostics;
    const Phase *phase = llvm::find_if(
        getPhases(), [&](const Phase &phase) { return phase.name == name; });
    ASSERT_NE(phase, getPhases().end()) << name;
    EXPECT_TRUE(failed(phase->verify(*module))) << name << ": " << text;
    EXPECT_NE(diagnostics.find(message), std::string::npos)
        << name << ": " << diagnostics;
  }
}
