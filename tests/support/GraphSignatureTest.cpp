// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From @graph to what the runtime reads.

#include "compiler/Support/GraphSignature.h"

#include "dialect/ONNX/ONNX.h"
#include "mlir/Parser/Parser.h"
#include "runtime/src/Signature.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace tercet;

namespace {
class GraphSignatureTest : public testing::Test {
protected:
  /// Of a graph whose only argument has these attributes and whose result is
  /// a scalar.
  FailureOr<GraphSignature> get(StringRef attributes) {
    std::string source = "func.func private @graph(tensor<?x2xi8> {" +
                         attributes.str() +
                         "}) -> (tensor<f32> {onnx.name = \"y\", onnx.type = "
                         "tensor<f32>})";
    module = parseSourceString<ModuleOp>(source, &context);
    ScopedDiagnosticHandler handler(
        &context, [&](Diagnostic &diagnostic) { message = diagnostic.str(); });
    return GraphSignature::get(*module->getOps<func::FuncOp>().begin());
  }

  std::string messageOf(StringRef attributes) {
    return succeeded(get(attributes)) ? "" : message;
  }

  GraphSignatureTest() {
    context.loadDialect<func::FuncDialect, onnx::ONNXDialect>();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::string message;
};
} // namespace

TEST_F(GraphSignatureTest, IsWhatTheRuntimeReads) {
  auto signature =
      get("onnx.name = \"x\", onnx.dims = [\"n\", \"\", \"n\", \"\"], "
          "onnx.type = tensor<?x2x?x?xui8>");
  ASSERT_TRUE(succeeded(signature));
  std::string section = signature->encode();
  Signature read;
  ASSERT_FALSE(Signature::open(section, read));
  ASSERT_EQ(read.inputs().size(), 1u);
  ASSERT_EQ(read.outputs().size(), 1u);
  const Signature::Tensor &x = read.inputs()[0], &y = read.outputs()[0];
  EXPECT_STREQ(read.name(x), "x");
  EXPECT_EQ(read.describe(x), "ui8[n, 2, n, ?]");
  EXPECT_EQ(x.dims[0], x.dims[2]) << "one string for one symbol";
  EXPECT_STREQ(read.name(y), "y");
  EXPECT_EQ(read.describe(y), "f32[]");
}

TEST_F(GraphSignatureTest, NamesEveryElementType) {
  for (auto [type, name] :
       std::initializer_list<std::pair<StringRef, StringRef>>{
           {"i1", "bool"},
           {"ui2", "ui2"},
           {"i4", "i4"},
           {"ui64", "ui64"},
           {"bf16", "bf16"},
           {"f64", "f64"},
           {"f8E5M2", "f8E5M2"}}) {
    auto signature =
        get(("onnx.name = \"x\", onnx.type = tensor<1x" + type + ">").str());
    ASSERT_TRUE(succeeded(signature));
    EXPECT_EQ(findElementType(signature->inputs[0].element)->name, name);
  }
}

TEST_F(GraphSignatureTest, RefusesWhatTheABIHasNot) {
  EXPECT_EQ(messageOf("onnx.name = \"x\", onnx.type = tensor<*xf32>"),
            "input 'x' has no known rank");
  EXPECT_EQ(messageOf("onnx.name = \"x\", "
                      "onnx.type = tensor<1x1x1x1x1x1x1x1x1xf32>"),
            "input 'x' has rank 9; at most 8 is supported");
  EXPECT_EQ(messageOf("onnx.name = \"x\", onnx.type = tensor<1xf6E2M3FN>"),
            "input 'x' has elements of type 'f6E2M3FN', which is not "
            "supported");
  EXPECT_EQ(messageOf("onnx.name = \"x\""),
            "'func.func' op expected onnx.name and onnx.type of each input");
}
