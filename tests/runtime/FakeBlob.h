// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Valid blobs for the toy model of FakeModel.cpp and the toy graph of
// FakeGraph.cpp.

#ifndef TERCET_TESTS_RUNTIME_FAKEBLOB_H
#define TERCET_TESTS_RUNTIME_FAKEBLOB_H

#include "tercet/artifact.h"

#include <string>

namespace tercet::test {

inline constexpr uint32_t FakeVocab = 300;
inline constexpr uint32_t FakeContext = 96;
inline constexpr uint32_t FakeSlotTokens = 2 * TERCET_KV_BLOCK;
inline constexpr uint32_t FakeEos = 299;

struct FakeBlobOptions {
  /// Sections that are left out when empty.
  std::string tokenizer, chatTemplate;
  /// Makes it the blob of a graph.
  std::string signature;
  uint64_t cpuFeatures = 0;
  /// Where the weights start; also the size of everything before them.
  uint64_t weightsOffset = TERCET_BLOB_ALIGNMENT;
  uint64_t weightsSize = 1 << 20;
};

/// The signature of FakeGraph.cpp.
std::string makeFakeSignature();

std::string makeFakeBlob(const FakeBlobOptions &options = {});

/// Recomputes the header's hash after a test changed the header or the table.
void rehashHeader(std::string &blob);

} // namespace tercet::test

#endif // TERCET_TESTS_RUNTIME_FAKEBLOB_H
