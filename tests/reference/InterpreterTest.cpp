// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/Interpreter.h"
#include "compiler/Support/PackedLayout.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"

#include "gtest/gtest.h"

#include <random>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;

class InterpreterTest : public testing::Test {
protected:
  void SetUp() override {
    context.loadDialect<mlir::arith::ArithDialect, mlir::func::FuncDialect,
                        mlir::linalg::LinalgDialect, mlir::scf::SCFDialect,
                        mlir::tensor::TensorDialect, ternary::TernaryDialect>();
  }

  mlir::ModuleOp parse(StringRef text) {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return *module;
  }

  /// The first result of @f in the last parsed module.
  Expected<Value> runF(ArrayRef<Value> arguments,
                       ArrayRef<uint8_t> weights = {}) {
    Interpreter interpreter(*module, reader);
    interpreter.setWeights(weights);
    Expected<Interpreter::Values> results = interpreter.run("f", arguments);
    if (!results)
      return results.takeError();
    return results->front();
  }

  Floats random(ArrayRef<int64_t> shape) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    Floats result(shape);
    for (float &x : result.data)
      x = uniform(generator);
    return result;
  }
  Bytes randomTrits(ArrayRef<int64_t> shape) {
    Bytes result(shape);
    for (int8_t &trit : result.data)
      trit = int8_t(generator() % 3) - 1;
    return result;
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ParameterReader reader;
  std::mt19937 generator{1};
};

static Value scalar(float value) { return Floats({}, {value}); }

//===----------------------------------------------------------------------===//
// One BitLinear, at every level
//===----------------------------------------------------------------------===//

constexpr StringRef kBitLinear = R"mlir(
func.func @f(%x: tensor<?x24xf32>, %a: tensor<20x24xi2>, %b: tensor<16x24xi2>,
             %g: f32, %h: f32) -> tensor<?x48xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x24xf32>
  %out = tensor.empty(%n) : tensor<?x48xf32>
  %y = ternary.bit_linear
      ins(%x, %a, %b scales %g, %h : tensor<?x24xf32>, tensor<20x24xi2>, tensor<16x24xi2>)
      outs(%out : tensor<?x48xf32>) -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
})mlir";

TEST_F(InterpreterTest, BitLinearIsQuantiseMatmulRescale) {
  Floats x = random({3, 24});
  Bytes a = randomTrits({20, 24}), b = randomTrits({16, 24});
  std::vector<Value> arguments = {x, a, b, scalar(0.3f), scalar(1.7f)};
  parse(kBitLinear);
  Value fused = cantFail(runF(arguments));

  parse(R"mlir(
func.func @f(%x: tensor<?x24xf32>, %a: tensor<20x24xi2>, %b: tensor<16x24xi2>,
             %g: f32, %h: f32) -> tensor<?x48xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x24xf32>
  %q_out = tensor.empty(%n) : tensor<?x32xi8>
  %scale_out = tensor.empty(%n) : tensor<?xf32>
  %sum_out = tensor.empty(%n) : tensor<?xi32>
  %q, %scale, %sum = ternary.quantize_activations ins(%x : tensor<?x24xf32>)
      outs(%q_out, %scale_out, %sum_out : tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>)
      -> tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>
  %acc_out = tensor.empty(%n) : tensor<?x48xi32>
  %acc = ternary.matmul ins(%q, %a, %b : tensor<?x32xi8>, tensor<20x24xi2>, tensor<16x24xi2>)
      outs(%acc_out : tensor<?x48xi32>) -> tensor<?x48xi32>
  %out = tensor.empty(%n) : tensor<?x48xf32>
  %y = ternary.rescale ins(%acc, %scale scales %g, %h : tensor<?x48xi32>, tensor<?xf32>)
      outs(%out : tensor<?x48xf32>) rows = [20, 16] -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
})mlir");
  EXPECT_TRUE(bitEqual(fused, cantFail(runF(arguments))));

  // Matrix a has columns 0..19, matrix b columns 32..47.
  Quantised quantised = quantizeActivations(x, 24);
  for (int64_t n = 0; n < 3; ++n)
    for (int64_t m = 0; m < 16; ++m) {
      int32_t sum = 0;
      for (int64_t k = 0; k < 24; ++k)
        sum += quantised.q.row(n)[k] * b.row(m)[k];
      EXPECT_EQ(fused.floats().row(n)[32 + m],
                float(sum) * (1.7f / quantised.scale.data[n]));
    }
}

TEST_F(InterpreterTest, PackedMatmulIsBitLinear) {
  Floats x = random({3, 24});
  Bytes a = randomTrits({20, 24}), b = randomTrits({16, 24});
  parse(kBitLinear);
  Value expected = cantFail(runF({x, a, b, scalar(0.3f), scalar(1.7f)}));

  // Rows 0..19 are a, 20..31 zeros, 32..47 b; then three scales, a multiple of
  // 64 bytes further.
  std::vector<int8_t> rows(48 * 24);
  copy(a.data, rows.begin());
  copy(b.data, rows.begin() + 32 * 24);
  std::vector<uint8_t> weights(384 + 12);
  packTrits(ternary::LayoutAttr::getTrits(&context, ternary::Packing::I2, {}),
            rows, 24, MutableArrayRef(weights).take_front(384));
  float scales[] = {0.3f, 0.3f, 1.7f};
  memcpy(weights.data() + 384, scales, sizeof(scales));

  parse(R"mlir(
#i2 = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%x: tensor<3x24xf32>, %base: index) -> tensor<3x48xf32> {
  %c384 = arith.constant 384 : index
  %end = arith.addi %base, %c384 : index
  %w = ternary.packed_parameter %base : tensor<384xi8>
  %scales = ternary.packed_parameter %end : tensor<3xf32>
  %q_out = tensor.empty() : tensor<3x24xi8>
  %scale_out = tensor.empty() : tensor<3xf32>
  %sum_out = tensor.empty() : tensor<3xi32>
  %q, %scale, %sum = ternary.quantize_activations ins(%x : tensor<3x24xf32>)
      outs(%q_out, %scale_out, %sum_out : tensor<3x24xi8>, tensor<3xf32>, tensor<3xi32>)
      -> tensor<3x24xi8>, tensor<3xf32>, tensor<3xi32>
  %out = tensor.empty() : tensor<3x48xf32>
  %y = ternary.packed_matmul #i2
      ins(%q, %scale, %sum, %w, %scales
          : tensor<3x24xi8>, tensor<3xf32>, tensor<3xi32>, tensor<384xi8>, tensor<3xf32>)
      outs(%out : tensor<3x48xf32>) -> tensor<3x48xf32>
  return %y : tensor<3x48xf32>
})mlir");
  EXPECT_TRUE(
      bitEqual(expected, cantFail(runF({x, Value::index(0)}, weights))));
  EXPECT_NE(toString(runF({x, Value::index(64)}, weights).takeError())
                .find("outside the weights section"),
            std::string::npos);
}

TEST_F(InterpreterTest, PackedLinearIsLinear) {
  Floats x = random({2, 5}), weight = random({32, 5});
  std::vector<uint16_t> bf16;
  for (float &w : weight.data) {
    bf16.push_back(bit_cast<uint32_t>(w) >> 16);
    w = bit_cast<float>(uint32_t(bf16.back()) << 16);
  }
  std::vector<uint8_t> weights(32 * 6 * 2);
  packBF16Pairs(bf16, 5, 16, weights);
  parse(R"mlir(
#bf16 = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%x: tensor<2x5xf32>, %tokens: tensor<2xi32>) -> (tensor<2x32xf32>, tensor<2x5xf32>) {
  %c0 = arith.constant 0 : index
  %w = ternary.packed_parameter %c0 : tensor<384xi8>
  %out = tensor.empty() : tensor<2x32xf32>
  %y = ternary.packed_linear #bf16 ins(%x, %w : tensor<2x5xf32>, tensor<384xi8>)
      outs(%out : tensor<2x32xf32>) -> tensor<2x32xf32>
  %rows = ternary.embedding ins(%tokens, %w : tensor<2xi32>, tensor<384xi8>)
      outs(%x : tensor<2x5xf32>) {layout = #bf16} -> tensor<2x5xf32>
  return %y, %rows : tensor<2x32xf32>, tensor<2x5xf32>
})mlir");
  Interpreter interpreter(*module, reader);
  interpreter.setWeights(weights);
  Ints tokens({2}, {31, 0});
  auto results = cantFail(interpreter.run("f", {x, tokens}));
  EXPECT_TRUE(bitEqual(results[0], linear(x, weight, 32)));
  EXPECT_TRUE(bitEqual(results[1], cantFail(gatherRows(weight, tokens))));
}

TEST_F(InterpreterTest, PackedFloatsAreWidened) {
  parse(R"mlir(
func.func @f(%offset: index) -> tensor<2xbf16> {
  %w = ternary.packed_parameter %offset : tensor<2xbf16>
  return %w : tensor<2xbf16>
})mlir");
  uint8_t weights[] = {0, 0, 0x80, 0x3f, 0x00, 0xc0};
  Value y = cantFail(runF({Value::index(2)}, weights));
  EXPECT_EQ(y.floats().data, (std::vector<float>{1, -2}));
}

//===----------------------------------------------------------------------===//
// Upstream ops
//===----------------------------------------------------------------------===//

TEST_F(InterpreterTest, LoopsCallsAndSlices) {
  parse(R"mlir(
func.func private @double(%x: tensor<1x?xf32>) -> tensor<1x?xf32> {
  %y = linalg.add ins(%x, %x : tensor<1x?xf32>, tensor<1x?xf32>)
      outs(%x : tensor<1x?xf32>) -> tensor<1x?xf32>
  return %y : tensor<1x?xf32>
}
// Doubles row i of x i + 1 times.
func.func @f(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %y = scf.for %i = %c0 to %c3 step %c1 iter_args(%acc = %x) -> tensor<3x2xf32> {
    %row = tensor.extract_slice %acc[%i, 0] [1, 2] [1, 1] : tensor<3x2xf32> to tensor<1x2xf32>
    %cast = tensor.cast %row : tensor<1x2xf32> to tensor<1x?xf32>
    %end = arith.addi %i, %c1 : index
    %z = scf.for %j = %c0 to %end step %c1 iter_args(%r = %cast) -> tensor<1x?xf32> {
      %d = func.call @double(%r) : (tensor<1x?xf32>) -> tensor<1x?xf32>
      scf.yield %d : tensor<1x?xf32>
    }
    %back = tensor.cast %z : tensor<1x?xf32> to tensor<1x2xf32>
    %next = tensor.insert_slice %back into %acc[%i, 0] [1, 2] [1, 1] : tensor<1x2xf32> into tensor<3x2xf32>
    scf.yield %next : tensor<3x2xf32>
  }
  return %y : tensor<3x2xf32>
})mlir");
  Value y = cantFail(runF({Floats({3, 2}, {1, 2, 3, 4, 5, 6})}));
  EXPECT_EQ(y.floats().data, (std::vector<float>{2, 4, 12, 16, 40, 48}));
}

TEST_F(InterpreterTest, VectorOps) {
  parse(R"mlir(
func.func @f(%acc: vector<1xi32>, %bytes: vector<4xi8>) -> vector<1xi32> {
  %table = arith.constant dense<[0, 1, 2, 3]> : vector<4xi8>
  %codes = ternary.unpack %bytes plane 1 : vector<4xi8>
  %q = ternary.lookup %table, %bytes : vector<4xi8>, vector<4xi8>
  %sum = ternary.dot %acc, %codes, %q : vector<1xi32>, vector<4xi8>, vector<4xi8>
  return %sum : vector<1xi32>
})mlir");
  // Codes 0 1 2 0, q 3 2 1 0.
  Value y = cantFail(runF({Ints({1}, {5}), Bytes({4}, {3, 6, 9, 0})}));
  EXPECT_EQ(y.ints().data, (std::vector<int32_t>{5 + 2 + 2}));
}

TEST_F(InterpreterTest, ReportsWhatItCannotRun) {
  parse(R"mlir(
func.func @f(%x: f32) -> f32 {
  %y = arith.mulf %x, %x : f32
  return %y : f32
})mlir");
  std::string message = toString(runF({scalar(1)}).takeError());
  EXPECT_NE(message.find("arith.mulf: is supported on index only"),
            std::string::npos)
      << message;
  EXPECT_EQ(toString(runF({}).takeError()), "@f takes 1 arguments");
}

//===----------------------------------------------------------------------===//
// A model
//===----------------------------------------------------------------------===//

/// One layer: hidden 16, two query heads and one KV head of 8, vocabulary 12.
/// FILE holds floats; q, k and v are one fused BitLinear.
constexpr StringRef kModel = R"mlir(
!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 16, head_dim = 8>
ternary.parameter @embed : tensor<12x16xf32> = #ternary.source<"FILE", offset = 0, size = 768, f32>
ternary.parameter @norm : tensor<16xf32> = #ternary.source<"FILE", offset = 64, size = 64, f32>
ternary.parameter @q : tensor<16x16xi2> = #ternary.source<"FILE", offset = 128, size = 1024, f32, absmean = 0.5 : f32>
ternary.parameter @kv : tensor<8x16xi2> = #ternary.source<"FILE", offset = 768, size = 512, f32, absmean = 0.5 : f32>
ternary.parameter @up : tensor<32x16xi2> = #ternary.source<"FILE", offset = 512, size = 2048, f32, absmean = 0.5 : f32>
ternary.parameter @down : tensor<16x32xi2> = #ternary.source<"FILE", offset = 640, size = 2048, f32, absmean = 0.5 : f32>
ternary.parameter @rope : tensor<16x8xf32> = #ternary.rope_table<10000.0 : f64>
func.func @step(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %slots: tensor<?xi32>,
                %logit_rows: tensor<?xi32>, %cache: !cache) -> tensor<?x12xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %g = arith.constant 0.25 : f32
  %embed = ternary.get_parameter @embed : tensor<12x16xf32>
  %norm = ternary.get_parameter @norm : tensor<16xf32>
  %wq = ternary.get_parameter @q : tensor<16x16xi2>
  %wkv = ternary.get_parameter @kv : tensor<8x16xi2>
  %wup = ternary.get_parameter @up : tensor<32x16xi2>
  %wdown = ternary.get_parameter @down : tensor<16x32xi2>
  %rope = ternary.get_parameter @rope : tensor<16x8xf32>
  %e16 = tensor.empty(%n) : tensor<?x16xf32>
  %e8 = tensor.empty(%n) : tensor<?x8xf32>
  %e32 = tensor.empty(%n) : tensor<?x32xf32>
  %e40 = tensor.empty(%n) : tensor<?x40xf32>
  %x = ternary.embedding ins(%tokens, %embed : tensor<?xi32>, tensor<12x16xf32>) outs(%e16 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %x1 = ternary.rms_norm ins(%x, %norm : tensor<?x16xf32>, tensor<16xf32>) outs(%e16 : tensor<?x16xf32>) epsilon = 1.0e-5 -> tensor<?x16xf32>
  %qkv = ternary.bit_linear ins(%x1, %wq, %wkv, %wkv scales %g, %g, %g : tensor<?x16xf32>, tensor<16x16xi2>, tensor<8x16xi2>, tensor<8x16xi2>) outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %q = tensor.extract_slice %qkv[0, 0] [%n, 16] [1, 1] : tensor<?x40xf32> to tensor<?x16xf32>
  %k = tensor.extract_slice %qkv[0, 16] [%n, 8] [1, 1] : tensor<?x40xf32> to tensor<?x8xf32>
  %v = tensor.extract_slice %qkv[0, 32] [%n, 8] [1, 1] : tensor<?x40xf32> to tensor<?x8xf32>
  %qr = ternary.rope ins(%q, %positions, %rope : tensor<?x16xf32>, tensor<?xi32>, tensor<16x8xf32>) outs(%e16 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %kr = ternary.rope ins(%k, %positions, %rope : tensor<?x8xf32>, tensor<?xi32>, tensor<16x8xf32>) outs(%e8 : tensor<?x8xf32>) -> tensor<?x8xf32>
  ternary.kv_update %kr, %v, %positions, %slots into %cache layer %c0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  %o = ternary.attention ins(%qr, %positions, %slots, %cache layer %c0 : tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache) outs(%e16 : tensor<?x16xf32>) scale = 0.35 -> tensor<?x16xf32>
  %x2 = linalg.add ins(%x, %o : tensor<?x16xf32>, tensor<?x16xf32>) outs(%e16 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %u = ternary.bit_linear ins(%x2, %wup scales %g : tensor<?x16xf32>, tensor<32x16xi2>) outs(%e32 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %a = ternary.gated_activation silu ins(%u, %u : tensor<?x32xf32>, tensor<?x32xf32>) outs(%e32 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %d = ternary.bit_linear ins(%a, %wdown scales %g : tensor<?x32xf32>, tensor<16x32xi2>) outs(%e16 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %x3 = linalg.add ins(%x2, %d : tensor<?x16xf32>, tensor<?x16xf32>) outs(%e16 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %r = tensor.dim %logit_rows, %c0 : tensor<?xi32>
  %er = tensor.empty(%r) : tensor<?x16xf32>
  %last = ternary.gather_rows ins(%x3, %logit_rows : tensor<?x16xf32>, tensor<?xi32>) outs(%er : tensor<?x16xf32>) -> tensor<?x16xf32>
  %el = tensor.empty(%r) : tensor<?x12xf32>
  %y = ternary.linear ins(%last, %embed : tensor<?x16xf32>, tensor<12x16xf32>) outs(%el : tensor<?x12xf32>) -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
})mlir";

class ReferenceModelTest : public InterpreterTest {
protected:
  void SetUp() override {
    InterpreterTest::SetUp();
    int descriptor;
    ASSERT_FALSE(
        sys::fs::createTemporaryFile("model", "bin", descriptor, path));
    Floats weights = random({1024});
    raw_fd_ostream(descriptor, /*shouldClose=*/true)
        .write(reinterpret_cast<const char *>(weights.data.data()), 4096);
    std::string text = kModel.str();
    for (size_t at; (at = text.find("FILE")) != std::string::npos;)
      text.replace(at, 4, path.str());
    parse(text);
  }
  void TearDown() override { sys::fs::remove(path); }

  SmallString<64> path;
  std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
};

TEST_F(ReferenceModelTest, ChunksChangeNothing) {
  ReferenceModel whole(*module, reader);
  Floats expected = cantFail(whole.step(tokens));
  ASSERT_EQ(expected.shape, (SmallVector<int64_t, 2>{10, 12}));

  ReferenceModel chunked(*module, reader);
  std::vector<float> logits;
  ArrayRef<int32_t> rest = tokens;
  for (size_t size : {4, 1, 3, 1, 1}) {
    append_range(logits, cantFail(chunked.step(rest.take_front(size))).data);
    rest = rest.drop_front(size);
  }
  EXPECT_TRUE(bitEqual(expected, Floats({10, 12}, logits)));
}

TEST_F(ReferenceModelTest, BatchesChangeNothing) {
  ReferenceModel alone(*module, reader);
  Floats a = cantFail(alone.step({3, 1, 4}, /*slot=*/0));
  Floats b = cantFail(alone.step({2, 7}, /*slot=*/1));

  // Both sequences in one call, interleaved, logits of the last tokens only.
  ReferenceModel batched(*module, reader);
  Floats y = cantFail(batched.step(/*tokens=*/{3, 2, 1, 7, 4},
                                   /*positions=*/{0, 0, 1, 1, 2},
                                   /*slots=*/{8, 9, 8, 9, 8},
                                   /*logitRows=*/{3, 4}));
  EXPECT_EQ(y.row(0), b.row(1));
  EXPECT_EQ(y.row(1), a.row(2));
}

TEST_F(ReferenceModelTest, ObserverSeesEveryOp) {
  ReferenceModel model(*module, reader);
  SmallVector<StringRef> names;
  model.getInterpreter().setObserver(
      [&](mlir::Operation *op, ArrayRef<Value> operands, ArrayRef<Value>) {
        EXPECT_EQ(operands.size(), op->getNumOperands());
        if (isa<ternary::TernaryDialect>(op->getDialect()))
          names.push_back(op->getName().stripDialect());
      });
  cantFail(model.step({1}));
  EXPECT_EQ(count(names, "bit_linear"), 3);
  EXPECT_EQ(names.back(), "linear");
}

TEST_F(ReferenceModelTest, RefusesWhatIsOutsideTheModel) {
  ReferenceModel model(*module, reader);
  std::string message = toString(model.step({12}).takeError());
  EXPECT_NE(message.find("ternary.embedding: token 12 is not in [0, 12)"),
            std::string::npos)
      << message;
  message = toString(model.step(std::vector<int32_t>(17, 1)).takeError());
  EXPECT_NE(message.find("position 16 is not in [0, 16)"), std::string::npos)
      << message;
}
