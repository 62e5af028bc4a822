// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The tokenizer section of an artifact (TERCET_SECTION_TOKENIZER), written by
// frontends/Tokenizer and read in place by Tokenizer.cpp: hash tables are
// stored ready to probe, because parsing ten megabytes of JSON at every start
// would cost more than loading the weights does.
//
//   TokenizerBlobHeader | arrays, each 8-byte aligned
//
// Little endian; all offsets are in bytes from the start of the section.

#ifndef TERCET_RUNTIME_TOKENIZERBLOB_H
#define TERCET_RUNTIME_TOKENIZERBLOB_H

#include <bit>
#include <cstdint>
#include <string_view>

namespace tercet {

static_assert(std::endian::native == std::endian::little,
              "the blob is read in place");

inline constexpr uint32_t tokenizerBlobMagic = 0x4B4F5454; // "TTOK"
inline constexpr uint32_t tokenizerBlobVersion = 2;
inline constexpr int32_t noToken = -1;

template <typename T> struct BlobArray {
  uint32_t offset;
  uint32_t count; // elements of T
};

/// Probed linearly from the key's hash. Its power-of-two number of slots holds
/// index + 1, or 0 where a probe ends; at most two thirds are taken.
using BlobHashTable = BlobArray<uint32_t>;

/// Two adjacent tokens and what they merge into. The lowest rank is merged
/// first, of equal ones the leftmost: sentencepiece ranks by the result's
/// score.
struct BlobMerge {
  int32_t left, right, result;
  uint32_t rank;
};

enum class StepKind : uint32_t {
  Split,        // by the pattern
  PrefixSpace,  // before every piece that does not start with one
  PrefixFirst,  // the same at the start of the text only
  AlwaysPrefix, // before every piece
  UnifySpaces,  // U+2581, sentencepiece's visible space, becomes a space
  MapBytes,     // bytes to the printable alphabet of GPT-2, for later patterns
};

/// What a Split does with matches (and, the same way, with what is between).
enum class SplitBehavior : uint32_t {
  Removed,
  Isolated,
  MergedWithPrevious,
  MergedWithNext,
  Contiguous,
};

/// One step of cutting text into the pieces that BPE works on.
struct BlobStep {
  StepKind kind;
  SplitBehavior behavior;
  uint32_t invert;         // matches and gaps change roles
  BlobArray<char> pattern; // PCRE2
};

enum BlobTokenFlags : uint8_t {
  TokenAdded = 1 << 0,   // matched in the text before it is cut
  TokenSpecial = 1 << 1, // ... only if special tokens are allowed there
  TokenSingleWord = 1 << 2,
  TokenStripLeft = 1 << 3, // takes the white space on its left as well
  TokenStripRight = 1 << 4,
};

/// A node of a trie over the texts of added tokens. Node 0 is the root; a
/// node's children are adjacent and come after it.
struct BlobTrieNode {
  uint32_t firstChild;
  uint16_t numChildren;
  uint8_t byte;
  uint8_t reserved;
  int32_t token; // ends here, or noToken
};

struct TokenizerBlobHeader {
  uint32_t magic;
  uint32_t version;
  uint32_t sizeInBytes;
  uint32_t ignoreMerges; // a piece that is a token is not merged from bytes
  // Merging starts from characters, and from bytes only where a character is
  // no token: sentencepiece. Its tokens are stored with spaces, not U+2581.
  uint32_t mergesCharacters;
  uint32_t stripsSpace; // one space at the start of decoded text
  // Of tokenizer_config.json; noToken where it names none.
  int32_t bosToken, eosToken, padToken, unknownToken;
  int32_t byteTokens[256];       // noToken: the byte is dropped
  BlobArray<uint32_t> tokenEnds; // of token i's bytes; they start at i - 1's
  BlobArray<char> tokenBytes;
  BlobArray<uint8_t> tokenFlags; // BlobTokenFlags
  BlobHashTable vocabulary;      // bytes -> token, without added tokens
  BlobArray<BlobMerge> merges;
  BlobHashTable mergeTable; // (left, right) -> merge
  BlobArray<BlobStep> steps;
  // Longest match wins, the first trie's before the second's.
  BlobArray<BlobTrieNode> addedTokens[2];
  BlobArray<int32_t> prefix, suffix; // put around a text
};

/// Hashes shared by the writer and the reader.
inline uint64_t mixHash(uint64_t h) {
  h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9;
  h = (h ^ h >> 27) * 0x94D049BB133111EB;
  return h ^ h >> 31;
}

inline uint64_t hashPair(int32_t left, int32_t right) {
  return mixHash(uint64_t(uint32_t(left)) << 32 | uint32_t(right));
}

inline uint64_t hashBytes(std::string_view bytes) {
  uint64_t h = 0xCBF29CE484222325; // FNV-1a
  for (char c : bytes)
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return mixHash(h);
}

/// GPT-2's alphabet of printable stand-ins for bytes: a byte that is printable
/// Latin-1 stands for itself, the others are U+0100, U+0101, ... in order.
struct ByteAlphabet {
  static constexpr uint32_t end = 0x144; // one past the last code point
  uint16_t printable[256] = {};
  int16_t byte[end] = {}; // -1 outside the alphabet

  constexpr ByteAlphabet() {
    for (int16_t &b : byte)
      b = -1;
    uint16_t next = 0x100;
    for (uint16_t c = 0; c < 256; ++c) {
      bool itself = (c >= '!' && c <= '~') || (c >= 0xA1 && c != 0xAD);
      printable[c] = itself ? c : next++;
      byte[printable[c]] = static_cast<int16_t>(c);
    }
  }
};
inline constexpr ByteAlphabet byteAlphabet;

} // namespace tercet

#endif // TERCET_RUNTIME_TOKENIZERBLOB_H
