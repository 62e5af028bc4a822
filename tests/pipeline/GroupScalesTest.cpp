// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model with scales of groups means the same after every phase that the
// interpreter runs, bit for bit, with every packing.

#include "compiler/Pipeline/Pipeline.h"
#include "compiler/Reference/Interpreter.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "gtest/gtest.h"

#include <random>

using namespace mlir;
using namespace tercet;

namespace {

/// A file of floats with every size of up to 2.
class WeightsFile {
public:
  WeightsFile() : remover(create()) {
    std::mt19937 random(7);
    std::error_code code;
    llvm::raw_fd_ostream out(path, code);
    for (int i = 0; i < 16384; ++i) {
      float value = float(random() % 4096) / 1024 - 2;
      out.write(reinterpret_cast<const char *>(&value), sizeof(value));
    }
  }

  llvm::SmallString<64> path;

private:
  llvm::StringRef create() {
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("groups", "bin", path));
    return path;
  }

  llvm::FileRemover remover;
};

class GroupScalesTest : public testing::Test {
protected:
  GroupScalesTest() : context(makeRegistry()) {
    context.loadAllAvailableDialects();
  }

  static DialectRegistry makeRegistry() {
    DialectRegistry registry;
    registerPipelineDialects(registry);
    return registry;
  }

  OwningOpRef<ModuleOp> parseModel() {
    auto buffer = llvm::MemoryBuffer::getFile(TERCET_GROUPS_MODEL);
    std::string text = (*buffer)->getBuffer().str();
    for (size_t at; (at = text.find("\"WEIGHTS")) != std::string::npos;)
      text.replace(at + 1, strlen("WEIGHTS"), weights.path.str());
    return parseSourceString<ModuleOp>(text, &context);
  }

  std::vector<float> run(ModuleOp module, ParameterReader &reader,
                         llvm::ArrayRef<uint8_t> packed) {
    reference::ReferenceModel model(module, reader);
    model.getInterpreter().setWeights(packed);
    return llvm::cantFail(model.step({3, 1, 4, 1, 5, 9, 2, 6})).data;
  }

  WeightsFile weights;
  MLIRContext context;
};

} // namespace

TEST_F(GroupScalesTest, EveryTensorPhaseMeansTheSame) {
  ParameterReader reader;
  OwningOpRef<ModuleOp> model = parseModel();
  ASSERT_TRUE(model);
  std::vector<float> expected = run(*model, reader, {});
  EXPECT_NE(expected.front(), 0);
  for (const char *packing : {"i2", "t5"})
    for (const Phase &phase : getPhases()) {
      CompileOptions options;
      options.target =
          llvm::cantFail(parseTarget("x86-64-v4+avx512vnni+avx512vbmi"));
      options.packing = packing;
      options.compileTo = phase.name;
      auto compiled = runPipeline(parseModel(), options, reader);
      ASSERT_TRUE(bool(compiled)) << llvm::toString(compiled.takeError());
      std::vector<uint8_t> packed(compiled->weightsSize);
      for (const WeightPiece &piece : compiled->weights)
        llvm::cantFail(piece.write(
            llvm::MutableArrayRef(packed).slice(piece.offset, piece.size)));
      std::vector<float> logits = run(*compiled->module, reader, packed);
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(),
                            logits.size() * sizeof(float)),
                0)
          << packing << ", " << phase.name.str();
      if (phase.name == "pack-weights")
        break;
    }
}
