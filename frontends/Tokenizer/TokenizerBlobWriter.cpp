// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/TokenizerModel.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

#include <cstring>
#include <map>

using namespace tercet;
using llvm::StringRef;

namespace {

/// Arrays behind a header that is filled in last.
class BlobWriter {
public:
  BlobWriter() : bytes(sizeof(TokenizerBlobHeader)) {}

  template <typename Range> auto append(const Range &values) {
    using T = std::decay_t<decltype(*std::data(values))>;
    BlobArray<T> array = {static_cast<uint32_t>(bytes.size()),
                          static_cast<uint32_t>(std::size(values))};
    auto *begin = reinterpret_cast<const uint8_t *>(std::data(values));
    bytes.insert(bytes.end(), begin, begin + std::size(values) * sizeof(T));
    bytes.resize(llvm::alignTo(bytes.size(), 8));
    return array;
  }

  std::vector<uint8_t> finish(TokenizerBlobHeader header) {
    header.magic = tokenizerBlobMagic;
    header.version = tokenizerBlobVersion;
    header.sizeInBytes = static_cast<uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &header, sizeof(header));
    return std::move(bytes);
  }

private:
  std::vector<uint8_t> bytes;
};

/// The slots of a BlobHashTable for `count` keys.
struct HashTable {
  std::vector<uint32_t> slots;

  explicit HashTable(size_t count)
      : slots(llvm::bit_ceil(count + count / 2 + 2)) {}

  /// Enters `index`, in place of the index of an equal key if there is one:
  /// Hugging Face lets the last of repeated merges win.
  template <typename IsSameKey>
  void insert(uint64_t hash, size_t index, IsSameKey isSameKey) {
    size_t mask = slots.size() - 1, i = hash & mask;
    while (slots[i] && !isSameKey(slots[i] - 1))
      i = (i + 1) & mask;
    slots[i] = static_cast<uint32_t>(index + 1);
  }
};

/// Laid out breadth first, which makes the children of a node adjacent.
std::vector<BlobTrieNode>
layOutTrie(llvm::ArrayRef<TokenizerModel::AddedToken> tokens) {
  struct Node {
    int32_t token = noToken;
    std::map<uint8_t, size_t> children;
  };
  std::vector<Node> nodes(1);
  for (const TokenizerModel::AddedToken &added : tokens) {
    size_t node = 0;
    for (unsigned char byte : added.content) {
      auto [child, isNew] =
          nodes[node].children.try_emplace(byte, nodes.size());
      node = child->second;
      if (isNew)
        nodes.emplace_back();
    }
    nodes[node].token = added.token;
  }

  std::vector<BlobTrieNode> out = {{0, 0, 0, 0, noToken}};
  std::vector<size_t> order = {0};
  for (size_t i = 0; i < order.size(); ++i) {
    const Node &node = nodes[order[i]];
    out[i].firstChild = static_cast<uint32_t>(out.size());
    out[i].numChildren = static_cast<uint16_t>(node.children.size());
    for (auto [byte, child] : node.children) {
      out.push_back({0, 0, byte, 0, nodes[child].token});
      order.push_back(child);
    }
  }
  return out;
}

} // namespace

std::vector<uint8_t> tercet::writeTokenizerBlob(const TokenizerModel &model) {
  BlobWriter writer;
  TokenizerBlobHeader header = {};
  header.ignoreMerges = model.ignoreMerges;
  header.mergesCharacters = model.mergesCharacters;
  header.stripsSpace = model.stripsSpace;
  header.bosToken = model.bosToken;
  header.eosToken = model.eosToken;
  header.padToken = model.padToken;
  header.unknownToken = model.unknownToken;
  llvm::copy(model.byteTokens, header.byteTokens);

  std::string bytes;
  std::vector<uint32_t> ends;
  std::vector<uint8_t> flags;
  HashTable vocabulary(model.tokens.size());
  for (auto [id, token] : llvm::enumerate(model.tokens)) {
    bytes += token.bytes;
    ends.push_back(static_cast<uint32_t>(bytes.size()));
    flags.push_back(token.flags);
    if (token.inVocabulary)
      vocabulary.insert(hashBytes(token.bytes), id, [&](uint32_t other) {
        return model.tokens[other].bytes == token.bytes;
      });
  }
  header.tokenEnds = writer.append(ends);
  header.tokenBytes = writer.append(bytes);
  header.tokenFlags = writer.append(flags);
  header.vocabulary = writer.append(vocabulary.slots);

  HashTable mergeTable(model.merges.size());
  for (auto [rank, merge] : llvm::enumerate(model.merges))
    mergeTable.insert(hashPair(merge.left, merge.right), rank,
                      [&](uint32_t other) {
                        return model.merges[other].left == merge.left &&
                               model.merges[other].right == merge.right;
                      });
  header.merges = writer.append(model.merges);
  header.mergeTable = writer.append(mergeTable.slots);

  std::vector<BlobStep> steps;
  for (const TokenizerModel::Step &step : model.steps)
    steps.push_back(
        {step.kind, step.behavior, step.invert, writer.append(step.pattern)});
  header.steps = writer.append(steps);
  for (int i : {0, 1})
    header.addedTokens[i] = writer.append(layOutTrie(model.addedTokens[i]));
  header.prefix = writer.append(model.prefix);
  header.suffix = writer.append(model.suffix);
  return writer.finish(header);
}
