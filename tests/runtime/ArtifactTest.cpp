// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Artifact.h"
#include "runtime/src/CpuFeatures.h"
#include "tests/runtime/FakeBlob.h"

#include <cstddef>
#include <gtest/gtest.h>

using namespace tercet;
using namespace tercet::test;

static FakeBlobOptions small() {
  FakeBlobOptions options;
  options.weightsOffset = 4096;
  options.weightsSize = 1024;
  return options;
}

static tercet_blob_header &header(std::string &blob) {
  return *reinterpret_cast<tercet_blob_header *>(blob.data());
}

static std::string openMessage(const std::string &blob, uint64_t available) {
  Artifact artifact;
  return Artifact::open(blob.data(), available, artifact).message();
}
static std::string openMessage(const std::string &blob) {
  return openMessage(blob, blob.size());
}

#define EXPECT_CONTAINS(text, part)                                            \
  EXPECT_NE((text).find(part), std::string::npos) << (text)

// The values are those of llvm::xxh3_64bits and of the reference xxhsum -H3.
TEST(Artifact, HashIsXXH3) {
  EXPECT_EQ(hashBytes("", 0), 0x2d06800538d394c2u);
  EXPECT_EQ(hashBytes("a", 1), 0xe6c632b61e964e1fu);
  std::string bytes(100000, 0);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(i * 7);
  EXPECT_EQ(hashBytes(bytes.data(), 100), 0x6dbb812cf19d012eu);
  EXPECT_EQ(hashBytes(bytes.data(), 240), 0x4917a75c0ef8eed7u);
  EXPECT_EQ(hashBytes(bytes.data(), 241), 0x541b19226f0052e8u);
  EXPECT_EQ(hashBytes(bytes.data(), 100000), 0x1271d2740e5fca3u);
}

TEST(Artifact, Opens) {
  std::string blob = makeFakeBlob(small());
  Artifact artifact;
  Error error = Artifact::open(blob.data(), blob.size(), artifact);
  ASSERT_FALSE(error) << error.message();
  EXPECT_EQ(artifact.header().vocab_size, FakeVocab);
  EXPECT_EQ(artifact.generation().eos_tokens[0], int32_t(FakeEos));
  EXPECT_EQ(artifact.section(TERCET_SECTION_INFO), "{\"model\": \"fake\"}");
  EXPECT_TRUE(artifact.section(TERCET_SECTION_CHAT_TEMPLATE).empty());
  EXPECT_FALSE(artifact.checkWeights());
}

TEST(Artifact, RefusesEveryTruncation) {
  std::string blob = makeFakeBlob(small());
  for (size_t size = 0; size < blob.size(); ++size)
    EXPECT_CONTAINS(openMessage(blob, size), "truncated");
}

// Any flipped bit before the weights is seen, except in padding.
TEST(Artifact, SeesDamage) {
  const std::string good = makeFakeBlob(small());
  Artifact opened;
  ASSERT_FALSE(Artifact::open(good.data(), good.size(), opened));
  auto *sections = reinterpret_cast<const tercet_section *>(
      good.data() + sizeof(tercet_blob_header));
  auto inUse = [&](size_t at) {
    return at < sizeof(tercet_blob_header) + 3 * sizeof(tercet_section) ||
           at - sections[0].offset < sections[0].size ||
           at - sections[1].offset < sections[1].size;
  };
  for (size_t i = 0; i < 4096; ++i) {
    if (!inUse(i))
      continue;
    std::string blob = good;
    blob[i] ^= 0x10;
    EXPECT_NE(openMessage(blob), "") << "byte " << i;
  }
}

TEST(Artifact, ChecksWeightsOnRequest) {
  std::string blob = makeFakeBlob(small());
  blob[5000] ^= 1;
  Artifact artifact;
  ASSERT_FALSE(Artifact::open(blob.data(), blob.size(), artifact));
  EXPECT_CONTAINS(artifact.checkWeights().message(), "hash of the weights");
}

TEST(Artifact, SaysWhatIsWrong) {
  std::string blob = makeFakeBlob(small());
  header(blob).magic = 0;
  EXPECT_CONTAINS(openMessage(blob), "carries no model");

  blob = makeFakeBlob(small());
  header(blob).version = 7;
  EXPECT_CONTAINS(openMessage(blob), "format 7");

  blob = makeFakeBlob(small());
  header(blob).num_sections = 0xffffffff;
  EXPECT_CONTAINS(openMessage(blob), "section table");

  blob = makeFakeBlob(small());
  header(blob).vocab_size = 0;
  rehashHeader(blob);
  EXPECT_CONTAINS(openMessage(blob), "out of range");

  blob = makeFakeBlob(small());
  auto *sections = reinterpret_cast<tercet_section *>(&header(blob) + 1);
  sections[2].offset = UINT64_MAX - 63;
  rehashHeader(blob);
  EXPECT_CONTAINS(openMessage(blob), "outside");
}

TEST(Artifact, NamesMissingCpuFeatures) {
  FakeBlobOptions options = small();
  options.cpuFeatures = TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX2;
  std::string blob = makeFakeBlob(options);
  Artifact artifact;
  ASSERT_FALSE(Artifact::open(blob.data(), blob.size(), artifact));
  std::string message = artifact.checkCpu(TERCET_CPU_AVX2).message();
  EXPECT_CONTAINS(message, "needs avx512vnni; this CPU has avx2");
  EXPECT_FALSE(artifact.checkCpu(options.cpuFeatures));
}

#ifdef __x86_64__
TEST(Artifact, CpuFeaturesAgreeWithTheCompilers) {
  uint64_t host = hostCpuFeatures();
  EXPECT_EQ(bool(host & TERCET_CPU_AVX2), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(bool(host & TERCET_CPU_BMI2), __builtin_cpu_supports("bmi2") != 0);
  EXPECT_EQ(bool(host & TERCET_CPU_AVX512VNNI),
            __builtin_cpu_supports("avx512vnni") != 0);
  EXPECT_EQ(bool(host & TERCET_CPU_AVX512VBMI),
            __builtin_cpu_supports("avx512vbmi") != 0);
  // What a CPU has is not all: the kernel may refuse its tiles.
  if (host & TERCET_CPU_AMXINT8)
    EXPECT_TRUE(__builtin_cpu_supports("amx-int8"));
}
#endif
