// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/ParameterReader.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

#include "gtest/gtest.h"

#include <cmath>

using namespace llvm;
using namespace tercet;

using F = std::vector<float>;
using B = std::vector<int8_t>;

class ParameterReaderTest : public testing::Test {
protected:
  void SetUp() override {
    context.loadDialect<ternary::TernaryDialect>();
    int descriptor;
    ASSERT_FALSE(
        sys::fs::createTemporaryFile("parameter", "bin", descriptor, path));
    raw_fd_ostream(descriptor, /*shouldClose=*/true)
        .write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  }
  void TearDown() override { sys::fs::remove(path); }

  /// `value` may use {0} for the path of a file that holds `bytes`.
  ternary::ParameterOp parse(StringRef type, const char *value) {
    std::string text = formatv("ternary.parameter @p : {0} = {1}", type,
                               formatv(value, path.str()).str());
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    return *module->getOps<ternary::ParameterOp>().begin();
  }

  std::string readTritsError(ternary::ParameterOp parameter, size_t size) {
    B trits(size);
    return toString(reader.readTrits(parameter, 0, 4, trits));
  }

  // Packed rows of two columns: codes of rows 0..3 from the low bits up.
  std::vector<uint8_t> bytes = {
      0b10'01'00'10, 0b00'00'01'01, // trits 1 0 | -1 0 | 0 -1 | 1 -1
      0b11'00'00'00, 0b00'00'00'00, // code 3 in row 3
      0x00,          0x3c,          // f16 1.0
      0x01,          0x80,          // f16 -2^-24
      0xff,          0x7b,          // f16 65504
      0x80,          0x3f,          // bf16 1.0
  };
  SmallString<64> path;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ParameterReader reader;
};

TEST_F(ParameterReaderTest, Packed) {
  auto parameter = parse("tensor<4x2xi2>", "#ternary.source<\"{0}\", offset = "
                                           "0, size = 2, hf_packed>");
  B trits(8), middle(4);
  ASSERT_FALSE(bool(reader.readTrits(parameter, 0, 4, trits)));
  EXPECT_EQ(trits, (B{1, 0, -1, 0, 0, -1, 1, -1}));
  ASSERT_FALSE(bool(reader.readTrits(parameter, 1, 3, middle)));
  EXPECT_EQ(middle, (B{-1, 0, 0, -1}));
}

TEST_F(ParameterReaderTest, InvalidCode) {
  auto parameter = parse("tensor<4x2xi2>", "#ternary.source<\"{0}\", offset = "
                                           "2, size = 2, hf_packed>");
  EXPECT_EQ(readTritsError(parameter, 8),
            "parameter 'p': invalid ternary code 3 at row 3, column 0");
}

TEST_F(ParameterReaderTest, Floats) {
  auto parameter = parse("tensor<3xf32>", "#ternary.source<\"{0}\", offset = "
                                          "4, size = 6, f16>");
  F floats(3);
  ASSERT_FALSE(bool(reader.readFloats(parameter, 0, 3, floats)));
  EXPECT_EQ(floats, (F{1, -0x1p-24f, 65504}));
  parameter = parse("tensor<1xbf16>", "#ternary.source<\"{0}\", offset = 10, "
                                      "size = 2, bf16>");
  ASSERT_FALSE(bool(reader.readFloats(parameter, 0, 1, {&floats[0], 1})));
  EXPECT_EQ(floats[0], 1);
}

TEST_F(ParameterReaderTest, Literals) {
  auto parameter =
      parse("tensor<2x2xi2>", "dense<[[1, -1], [0, 1]]> : tensor<2x2xi2>");
  B trits(2);
  ASSERT_FALSE(bool(reader.readTrits(parameter, 1, 2, trits)));
  EXPECT_EQ(trits, (B{0, 1}));
  parameter = parse("tensor<2xf32>", "dense<[0.5, 2.0]> : tensor<2xf32>");
  F floats(1);
  ASSERT_FALSE(bool(reader.readFloats(parameter, 1, 2, floats)));
  EXPECT_EQ(floats, F{2});
}

TEST_F(ParameterReaderTest, Latent) {
  // f16 values 1.0 and -2^-24.
  auto parameter = parse("tensor<1x2xi2>",
                         "#ternary.source<\"{0}\", offset = 4, size = 4, f16, "
                         "absmean = 1.5 : f32>");
  B trits(2);
  ASSERT_FALSE(bool(reader.readTrits(parameter, 0, 1, trits)));
  EXPECT_EQ(trits, (B{1, 0}));
  Expected<float> scale = computeAbsmean(reader, parameter);
  ASSERT_TRUE(bool(scale));
  EXPECT_EQ(*scale, float((1 + 0x1p-24) / 2));
}

TEST_F(ParameterReaderTest, RopeTable) {
  auto parameter =
      parse("tensor<8x4xf32>", "#ternary.rope_table<10000.0 : f64>");
  F row(4);
  ASSERT_FALSE(bool(reader.readFloats(parameter, 12, 16, row)));
  float slow = 3 * (1.0f / 100.0f);
  EXPECT_EQ(row, (F{float(std::cos(3.0)), float(std::cos(double(slow))),
                    float(std::sin(3.0)), float(std::sin(double(slow)))}));
}

TEST_F(ParameterReaderTest, Files) {
  auto parameter = parse("tensor<8x4xi2>", "#ternary.source<\"{0}\", offset = "
                                           "8, size = 8, hf_packed>");
  EXPECT_EQ(readTritsError(parameter, 16),
            "parameter 'p': '" + path.str().str() + "' is too short");
  parameter = parse("tensor<4x2xi2>", "#ternary.source<\"{0}.missing\", offset "
                                      "= 0, size = 2, hf_packed>");
  EXPECT_NE(readTritsError(parameter, 8).find("No such file"),
            std::string::npos);
}
