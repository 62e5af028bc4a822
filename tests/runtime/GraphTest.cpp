// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Graph.h"
#include "runtime/src/Artifact.h"
#include "tests/runtime/FakeBlob.h"

#include <gtest/gtest.h>
#include <vector>

using namespace tercet;
using namespace tercet::test;

#define EXPECT_CONTAINS(text, part)                                            \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

TEST(BlockList, ReusesWhatIsFreed) {
  BlockList memory;
  void *first = memory.allocate(1000), *second = memory.allocate(1000);
  EXPECT_NE(first, second);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  memory.free(first);
  EXPECT_EQ(memory.allocate(990), first) << "of the same size class";
}

TEST(BlockList, KeepsWhatItIsTold) {
  BlockList memory;
  void *lost = memory.allocate(50);
  tercet_graph_tensor kept = {memory.allocate(50), {}};
  memory.freeAllBut(std::span(&kept, 1));
  EXPECT_EQ(memory.allocate(50), lost);
  EXPECT_NE(memory.allocate(50), kept.data);
}

TEST(BlockList, HoldsAnySize) {
  BlockList memory;
  for (uint64_t size : {0, 1, 63, 64, 65, 80, 81, 4096, 4097, 3 << 20})
    memset(memory.allocate(size), 1, size);
  EXPECT_EQ(memory.allocate(INT64_MAX), nullptr);
}

//===----------------------------------------------------------------------===//
// Signature
//===----------------------------------------------------------------------===//

TEST(Signature, Describes) {
  std::string section = makeFakeSignature();
  Signature signature;
  ASSERT_FALSE(Signature::open(section, signature));
  ASSERT_EQ(signature.inputs().size(), 3u);
  EXPECT_STREQ(signature.name(signature.inputs()[0]), "x");
  EXPECT_EQ(signature.describe(signature.inputs()[0]), "f32[batch, 3]");
  EXPECT_EQ(signature.describe(signature.inputs()[2]), "bool[]");
  int64_t shape[] = {5, 3}, size;
  EXPECT_EQ(describeShape(signature.inputs()[0], shape), "f32[5, 3]");
  ASSERT_TRUE(sizeInBytes(signature.inputs()[0], shape, size));
  EXPECT_EQ(size, 60);
  int64_t negative[] = {-1, 3}, large[] = {INT64_MAX, 3},
          empty[] = {INT64_MAX, 0};
  EXPECT_FALSE(sizeInBytes(signature.inputs()[0], negative, size));
  EXPECT_FALSE(sizeInBytes(signature.inputs()[0], large, size));
  ASSERT_TRUE(sizeInBytes(signature.inputs()[0], empty, size));
  EXPECT_EQ(size, 0);
}

TEST(Signature, RefusesDamage) {
  Signature signature;
  std::string whole = makeFakeSignature();
  EXPECT_TRUE(Signature::open({}, signature));
  for (size_t size = 1; size < whole.size(); ++size)
    EXPECT_TRUE(Signature::open(whole.substr(0, size), signature)) << size;
  auto change = [&](auto edit) {
    std::string section = whole;
    edit(*reinterpret_cast<tercet_signature_tensor *>(
        section.data() + sizeof(tercet_signature)));
    return Signature::open(section, signature).message();
  };
  EXPECT_CONTAINS(change([](auto &x) { x.rank = 9; }), "damaged");
  EXPECT_CONTAINS(change([](auto &x) { x.element = 8; }), "damaged");
  EXPECT_CONTAINS(change([](auto &x) { x.name = 1 << 20; }), "damaged");
  EXPECT_CONTAINS(change([](auto &x) { x.dims[0] = INT64_MIN; }), "damaged");
}

//===----------------------------------------------------------------------===//
// Graph
//===----------------------------------------------------------------------===//

namespace {
class GraphTest : public testing::Test {
protected:
  GraphTest() {
    EXPECT_FALSE(Signature::open(section, signature));
    graph = std::make_unique<Graph>(&tercet_evaluate, signature, weights,
                                    /*numThreads=*/2, /*scratchSize=*/0);
  }

  std::string section = makeFakeSignature();
  Signature signature;
  alignas(64) char weights[64] = {0, 7};
  std::unique_ptr<Graph> graph;

  // One float off an address that is a multiple of 64.
  alignas(64) float memory[10] = {0, 1, 2, 3, 4, 5, 6, 0, 10, 20};
  bool fail = false;
  std::vector<tercet_graph_tensor> inputs = {
      {memory + 1, {2, 3}}, {memory + 8, {2}}, {&fail, {}}};
  std::vector<tercet_graph_tensor> outputs{2};
};
} // namespace

TEST_F(GraphTest, Runs) {
  ASSERT_FALSE(graph->check(inputs));
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(graph->run(inputs, outputs));
    auto *sum = static_cast<const float *>(outputs[0].data);
    EXPECT_EQ(std::vector<float>(sum, sum + 6),
              (std::vector<float>{11, 12, 13, 24, 25, 26}));
    EXPECT_EQ(outputs[0].shape[0], 2);
    EXPECT_EQ(*static_cast<const int64_t *>(outputs[1].data), 2);
  }
}

TEST_F(GraphTest, RunsAgainAfterAFailure) {
  fail = true;
  EXPECT_EQ(graph->run(inputs, outputs).message(),
            "node 'check': told to fail");
  EXPECT_EQ(outputs[0].data, nullptr) << "unchanged";
  fail = false;
  EXPECT_FALSE(graph->run(inputs, outputs));
}

TEST_F(GraphTest, ChecksInputs) {
  inputs[0].shape[1] = 4;
  EXPECT_EQ(graph->check(inputs).message(),
            "input x: expected f32[batch, 3], not f32[2, 4]");
  inputs[0].shape[1] = 3;
  inputs[1].shape[0] = 1;
  EXPECT_EQ(graph->check(inputs).message(),
            "input y: batch is 1 here and 2 in input x");
  inputs[1].shape[0] = -1;
  EXPECT_CONTAINS(graph->check(inputs).message(), "is no shape");
  inputs[1].shape[0] = 2;
  reinterpret_cast<char &>(fail) = 2;
  EXPECT_EQ(graph->check(inputs).message(),
            "input fail: an element of bool is outside 0 to 1");
}

TEST(GraphBlob, Opens) {
  FakeBlobOptions options;
  options.signature = makeFakeSignature();
  std::string blob = makeFakeBlob(options);
  Artifact artifact;
  Error error = Artifact::open(blob.data(), blob.size(), artifact);
  ASSERT_FALSE(error) << error.message();
  EXPECT_EQ(artifact.section(TERCET_SECTION_SIGNATURE), options.signature);
}
