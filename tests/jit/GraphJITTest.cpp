// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loading and running compiled code; what the code computes is tested through
// the pipeline (tests/onnx).

#include "compiler/JIT/GraphJIT.h"

#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace tercet;

/// y[n] = x[n] + the first float of the weights; fails where n is 7.
static constexpr llvm::StringLiteral kModule = R"mlir(
llvm.func @tercet_allocate(i64) -> !llvm.ptr
llvm.func @tercet_fail(!llvm.ptr)
llvm.mlir.global internal constant @message("node 'x': seven\00")
llvm.func @tercet_evaluate(%weights: !llvm.ptr, %inputs: !llvm.ptr,
                           %outputs: !llvm.ptr, %pool: !llvm.ptr) {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %four = llvm.mlir.constant(4 : i64) : i64
  %seven = llvm.mlir.constant(7 : i64) : i64
  %weight = llvm.load %weights : !llvm.ptr -> f32
  %x = llvm.load %inputs : !llvm.ptr -> !llvm.ptr
  %x_shape = llvm.getelementptr %inputs[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %n = llvm.load %x_shape : !llvm.ptr -> i64
  %bytes = llvm.mul %n, %four : i64
  %y = llvm.call @tercet_allocate(%bytes) : (i64) -> !llvm.ptr
  %is_seven = llvm.icmp "eq" %n, %seven : i64
  llvm.cond_br %is_seven, ^fail, ^loop(%zero : i64)
^fail:
  %message = llvm.mlir.addressof @message : !llvm.ptr
  llvm.call @tercet_fail(%message) : (!llvm.ptr) -> ()
  llvm.unreachable
^loop(%i: i64):
  %more = llvm.icmp "slt" %i, %n : i64
  llvm.cond_br %more, ^body, ^done
^body:
  %from = llvm.getelementptr %x[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %to = llvm.getelementptr %y[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
  %value = llvm.load %from : !llvm.ptr -> f32
  %sum = llvm.fadd %value, %weight : f32
  llvm.store %sum, %to : f32, !llvm.ptr
  %next = llvm.add %i, %one : i64
  llvm.br ^loop(%next : i64)
^done:
  %y_shape = llvm.getelementptr %outputs[1] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.store %y, %outputs : !llvm.ptr, !llvm.ptr
  llvm.store %n, %y_shape : i64, !llvm.ptr
  llvm.return
}
)mlir";

namespace {
class GraphJITTest : public testing::Test {
protected:
  GraphJITTest() : context(makeRegistry()) {
    CompiledModel model;
    model.module = parseSourceString<ModuleOp>(kModule, &context);
    model.weightsSize = 64;
    model.weights.push_back(
        {0, 4, [](llvm::MutableArrayRef<uint8_t> out) -> llvm::Error {
           float value = 0.5;
           memcpy(out.data(), &value, sizeof value);
           return llvm::Error::success();
         }});
    auto type =
        RankedTensorType::get(ShapedType::kDynamic, Float32Type::get(&context));
    model.signature.emplace();
    model.signature->inputs = {{"x", type, TERCET_ELEMENT_F32, {"n"}}};
    model.signature->outputs = {{"y", type, TERCET_ELEMENT_F32, {"n"}}};
    auto linked = GraphJIT::link(model, llvm::cantFail(parseTarget("native")));
    EXPECT_TRUE(bool(linked));
    jit.emplace(std::move(*linked));
  }

  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registerPipelineDialects(registry);
    return registry;
  }

  static HostTensor makeTensor(llvm::ArrayRef<float> values) {
    HostTensor tensor = {{int64_t(values.size())}, {}};
    tensor.bytes.resize(values.size() * sizeof(float));
    memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
    return tensor;
  }

  std::string messageOf(const HostTensor &x) {
    auto outputs = jit->run(x);
    return outputs ? "" : llvm::toString(outputs.takeError());
  }

  MLIRContext context;
  std::optional<GraphJIT> jit;
};
} // namespace

TEST_F(GraphJITTest, Runs) {
  auto outputs = jit->run(makeTensor({1, 2, 3}));
  ASSERT_TRUE(bool(outputs));
  ASSERT_EQ(outputs->size(), 1u);
  EXPECT_EQ((*outputs)[0].bytes, makeTensor({1.5, 2.5, 3.5}).bytes);
  EXPECT_EQ((*outputs)[0].shape, (llvm::SmallVector<int64_t>{3}));
}

TEST_F(GraphJITTest, ReportsErrors) {
  EXPECT_EQ(messageOf(makeTensor({1, 2, 3, 4, 5, 6, 7})), "node 'x': seven");
  EXPECT_EQ(messageOf(makeTensor({})), "");
  EXPECT_EQ(messageOf({{2, 2}, std::vector<char>(16)}),
            "input x: not of rank 1, or of another size than its shape");
  EXPECT_EQ(messageOf({{2}, std::vector<char>(16)}),
            "input x: not of rank 1, or of another size than its shape");
}
