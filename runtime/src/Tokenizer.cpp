// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Tokenizer.h"
#include "runtime/src/Pattern.h"
#include "runtime/src/TokenizerBlob.h"
#include "runtime/src/Utf8.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

using namespace tercet;

namespace {

/// Text cut into pieces, in order. Gaps are what a step removed. The text is
/// the caller's until a step has to rewrite it.
struct Pieces {
  struct Range {
    size_t begin, end;
  };
  std::string_view text;
  std::string rewritten;
  std::vector<Range> ranges;

  explicit Pieces(std::string_view text) : text(text) {
    if (!text.empty())
      ranges.push_back({0, text.size()});
  }

  std::string_view operator[](Range range) const {
    return text.substr(range.begin, range.end - range.begin);
  }

  /// Replaces every piece by what `append(out, piece)` adds to `out`.
  template <typename Append> void rewrite(Append append) {
    std::string out;
    out.reserve(text.size() + ranges.size());
    for (Range &range : ranges) {
      size_t begin = out.size();
      append(out, (*this)[range]);
      range = {begin, out.size()};
    }
    rewritten = std::move(out);
    text = rewritten;
  }
};

/// A match of a Split step, or the text between two.
struct Part {
  size_t begin, end;
  bool match;
};

/// Joins the parts of one piece as Hugging Face's SplitDelimiterBehavior does.
void joinParts(std::span<const Part> parts, SplitBehavior behavior,
               std::vector<Pieces::Range> &out) {
  size_t first = out.size();
  bool joinable = false; // the part before this one was no match
  switch (behavior) {
  case SplitBehavior::Removed:
    for (const Part &part : parts)
      if (!part.match)
        out.push_back({part.begin, part.end});
    break;
  case SplitBehavior::Isolated:
    for (const Part &part : parts)
      out.push_back({part.begin, part.end});
    break;
  case SplitBehavior::MergedWithPrevious:
    for (const Part &part : parts) {
      if (part.match && joinable)
        out.back().end = part.end;
      else
        out.push_back({part.begin, part.end});
      joinable = !part.match;
    }
    break;
  case SplitBehavior::MergedWithNext:
    for (size_t i = parts.size(); i-- > 0;) {
      if (parts[i].match && joinable)
        out.back().begin = parts[i].begin;
      else
        out.push_back({parts[i].begin, parts[i].end});
      joinable = !parts[i].match;
    }
    std::reverse(out.begin() + first, out.end());
    break;
  case SplitBehavior::Contiguous:
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0 && parts[i].match == parts[i - 1].match)
        out.back().end = parts[i].end;
      else
        out.push_back({parts[i].begin, parts[i].end});
    }
    break;
  }
}

bool startsWithWhiteSpace(std::string_view text) {
  return !text.empty() && isWhiteSpace(decodeUtf8(text).codePoint);
}

void appendPrintable(std::string &out, std::string_view bytes) {
  for (char c : bytes)
    appendUtf8(out, byteAlphabet.printable[static_cast<unsigned char>(c)]);
}

void appendUnprintable(std::string &out, std::string_view printable) {
  while (!printable.empty()) {
    Utf8Character c = decodeUtf8(printable);
    out.push_back(static_cast<char>(byteAlphabet.byte[c.codePoint]));
    printable.remove_prefix(c.length);
  }
}

void appendUnified(std::string &out, std::string_view piece) {
  static constexpr std::string_view visibleSpace = "\xE2\x96\x81";
  size_t at;
  while ((at = piece.find(visibleSpace)) != piece.npos) {
    out.append(piece.substr(0, at)).push_back(' ');
    piece.remove_prefix(at + visibleSpace.size());
  }
  out.append(piece);
}

} // namespace

struct Tokenizer::Impl {
  const uint8_t *blob;
  const TokenizerBlobHeader *header;
  std::vector<Pattern> patterns; // of steps; unused where a step has none
  Pattern word;                  // one character of a word

  template <typename T> std::span<const T> array(BlobArray<T> a) const {
    return {reinterpret_cast<const T *>(blob + a.offset), a.count};
  }

  std::string_view bytes(int32_t token) const;
  int32_t lookup(std::string_view bytes) const;
  const BlobMerge *findMerge(int32_t left, int32_t right) const;

  using Range = Pieces::Range;
  using Searcher = Pattern::Searcher;
  bool isWholeWord(std::string_view text, Range match,
                   Searcher &searcher) const;
  template <typename Visit>
  void splitOnAdded(unsigned trie, std::string_view text, bool allowSpecial,
                    Searcher &searcher, Visit visit) const;
  Error splitByPattern(size_t step, Pieces &pieces, Searcher &searcher) const;
  Error cut(Pieces &pieces, bool isFirst, Searcher &searcher) const;
};

std::string_view Tokenizer::Impl::bytes(int32_t token) const {
  auto ends = array(header->tokenEnds);
  if (token < 0 || static_cast<size_t>(token) >= ends.size())
    return {};
  uint32_t begin = token == 0 ? 0 : ends[token - 1];
  return {array(header->tokenBytes).data() + begin, ends[token] - begin};
}

int32_t Tokenizer::Impl::lookup(std::string_view wanted) const {
  auto slots = array(header->vocabulary);
  size_t mask = slots.size() - 1;
  for (size_t i = hashBytes(wanted) & mask; slots[i]; i = (i + 1) & mask)
    if (int32_t token = static_cast<int32_t>(slots[i] - 1);
        bytes(token) == wanted)
      return token;
  return noToken;
}

const BlobMerge *Tokenizer::Impl::findMerge(int32_t left, int32_t right) const {
  auto slots = array(header->mergeTable);
  auto merges = array(header->merges);
  size_t mask = slots.size() - 1;
  for (size_t i = hashPair(left, right) & mask; slots[i]; i = (i + 1) & mask)
    if (const BlobMerge &merge = merges[slots[i] - 1];
        merge.left == left && merge.right == right)
      return &merge;
  return nullptr;
}

/// Whether `match` touches no word on either side.
bool Tokenizer::Impl::isWholeWord(std::string_view text, Range match,
                                  Searcher &searcher) const {
  auto isWord = [&](std::string_view character) {
    std::optional<Pattern::Match> match;
    return !searcher.find(word, character, 0, match) && match;
  };
  std::string_view before = text.substr(0, match.begin);
  std::string_view after = text.substr(match.end);
  if (!before.empty() && isWord(lastCharacter(before)))
    return false;
  return after.empty() || !isWord(after.substr(0, decodeUtf8(after).length));
}

/// Calls visit(text, token) for the added tokens in `text`, leftmost-longest,
/// and with noToken for the text between. Follows Hugging Face's
/// AddedVocabulary::find_matches also where that is peculiar: a match that is
/// not wanted still hides the shorter or later ones it overlaps.
template <typename Visit>
void Tokenizer::Impl::splitOnAdded(unsigned trie, std::string_view text,
                                   bool allowSpecial, Searcher &searcher,
                                   Visit visit) const {
  auto nodes = array(header->addedTokens[trie]);
  auto flagsOf = array(header->tokenFlags);
  size_t shown = 0; // text before it was visited
  auto visitTextUntil = [&](size_t end) {
    if (shown < end)
      visit(text.substr(shown, end - shown), noToken);
  };

  for (size_t start = 0; start < text.size();) {
    int32_t token = noToken;
    size_t matchEnd = start;
    const BlobTrieNode *node = nodes.data();
    for (size_t i = start; i < text.size(); ++i) {
      const BlobTrieNode *child = nodes.data() + node->firstChild;
      const BlobTrieNode *end = child + node->numChildren;
      node = std::find_if(child, end, [&](const BlobTrieNode &n) {
        return n.byte == static_cast<uint8_t>(text[i]);
      });
      if (node == end)
        break;
      if (node->token != noToken) {
        token = node->token;
        matchEnd = i + 1;
      }
    }
    if (token == noToken) {
      ++start;
      continue;
    }

    Range match = {std::exchange(start, matchEnd), matchEnd};
    uint8_t flags = flagsOf[token];
    if ((flags & TokenSpecial) && !allowSpecial)
      continue;
    if ((flags & TokenSingleWord) && !isWholeWord(text, match, searcher))
      continue;
    if (flags & TokenStripLeft)
      while (match.begin > shown) {
        std::string_view last = lastCharacter(text.substr(0, match.begin));
        if (!startsWithWhiteSpace(last))
          break;
        match.begin -= last.size();
      }
    if (flags & TokenStripRight)
      while (startsWithWhiteSpace(text.substr(match.end)))
        match.end += decodeUtf8(text.substr(match.end)).length;
    visitTextUntil(match.begin);
    visit({}, token);
    shown = match.end;
  }
  visitTextUntil(text.size());
}

Error Tokenizer::Impl::splitByPattern(size_t step, Pieces &pieces,
                                      Searcher &searcher) const {
  const BlobStep &description = array(header->steps)[step];
  bool invert = description.invert;
  std::vector<Range> out;
  std::vector<Part> parts;
  for (Range range : pieces.ranges) {
    std::string_view piece = pieces[range];
    parts.clear();
    size_t done = 0;
    auto addPart = [&](size_t end, bool match) {
      if (end > done)
        parts.push_back(
            {range.begin + done, range.begin + end, match != invert});
      done = end;
    };
    for (size_t start = 0; start < piece.size();) {
      std::optional<Pattern::Match> match;
      if (Error error = searcher.find(patterns[step], piece, start, match))
        return Error("cannot cut the text for the tokenizer: " +
                     error.message() + " of " + std::to_string(piece.size()));
      if (!match)
        break;
      addPart(match->begin, false);
      addPart(match->end, true);
      start = match->end;
      if (match->begin == match->end && start < piece.size())
        start += decodeUtf8(piece.substr(start)).length;
    }
    addPart(piece.size(), false);
    joinParts(parts, description.behavior, out);
  }
  pieces.ranges = std::move(out);
  return Error::success();
}

/// Runs the pre-tokenizer's steps; `isFirst` at the start of the text.
Error Tokenizer::Impl::cut(Pieces &pieces, bool isFirst,
                           Searcher &searcher) const {
  auto steps = array(header->steps);
  bool mapped = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    switch (steps[i].kind) {
    case StepKind::Split:
      if (Error error = splitByPattern(i, pieces, searcher))
        return error;
      break;
    case StepKind::PrefixSpace:
    case StepKind::PrefixFirst:
    case StepKind::AlwaysPrefix: {
      StepKind kind = steps[i].kind;
      if (kind == StepKind::PrefixFirst && !isFirst)
        break;
      pieces.rewrite([&](std::string &out, std::string_view piece) {
        if (kind == StepKind::AlwaysPrefix || !piece.starts_with(' '))
          out.push_back(' ');
        out.append(piece);
      });
      break;
    }
    case StepKind::UnifySpaces:
      pieces.rewrite(appendUnified);
      break;
    case StepKind::MapBytes:
      pieces.rewrite(appendPrintable);
      mapped = true;
      break;
    }
  }
  if (mapped)
    pieces.rewrite(appendUnprintable);
  return Error::success();
}

namespace {

/// Merges the bytes (or characters) of a piece into tokens: repeatedly the
/// adjacent pair of the lowest rank, the leftmost of equals. A heap of
/// candidate pairs makes that O(n log n), so a piece may be as long as a text.
template <typename Impl> class Merger {
public:
  explicit Merger(const Impl &tokenizer) : tokenizer(tokenizer) {}

  void merge(std::string_view piece, std::vector<int32_t> &out) {
    if (tokenizer.header->ignoreMerges)
      if (int32_t token = tokenizer.lookup(piece); token != noToken)
        return out.push_back(token);

    fill(piece);
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end(), std::greater<>());
      uint64_t candidate = queue.back();
      queue.pop_back();
      apply(static_cast<uint32_t>(candidate), candidate >> 32);
    }
    for (uint32_t i = 0; i < symbols.size(); i = symbols[i].next)
      out.push_back(symbols[i].token);
  }

private:
  struct Symbol {
    int32_t token; // noToken once merged into its left neighbour
    uint32_t previous, next;
  };
  static constexpr uint32_t none = UINT32_MAX;

  void fill(std::string_view piece) {
    symbols.clear();
    queue.clear();
    auto add = [&](int32_t token) {
      auto position = static_cast<uint32_t>(symbols.size());
      if (token != noToken) // else dropped, as Hugging Face does
        symbols.push_back({token, position - 1, position + 1});
    };
    const TokenizerBlobHeader &header = *tokenizer.header;
    while (!piece.empty()) {
      int32_t token = noToken;
      size_t length = 1;
      if (header.mergesCharacters) {
        length = decodeUtf8(piece).length;
        token = tokenizer.lookup(piece.substr(0, length));
      }
      if (token != noToken)
        add(token);
      else
        for (unsigned char byte : piece.substr(0, length))
          add(header.byteTokens[byte]);
      piece.remove_prefix(length);
    }
    if (symbols.empty())
      return;
    symbols.back().next = none;
    for (uint32_t i = 0; i + 1 < symbols.size(); ++i)
      if (const BlobMerge *found = mergeAt(i))
        queue.push_back(candidate(*found, i));
    std::make_heap(queue.begin(), queue.end(), std::greater<>());
  }

  /// Orders by rank, then by position.
  static uint64_t candidate(const BlobMerge &merge, uint32_t position) {
    return static_cast<uint64_t>(merge.rank) << 32 | position;
  }

  const BlobMerge *mergeAt(uint32_t position) const {
    const Symbol &left = symbols[position];
    return left.next == none
               ? nullptr
               : tokenizer.findMerge(left.token, symbols[left.next].token);
  }

  void push(uint32_t position) {
    if (const BlobMerge *found = mergeAt(position)) {
      queue.push_back(candidate(*found, position));
      std::push_heap(queue.begin(), queue.end(), std::greater<>());
    }
  }

  /// Merges the pair at `position` unless it has changed since it was queued.
  /// (If it changed into one of the same rank, that one is queued as well, and
  /// next in turn.)
  void apply(uint32_t position, uint32_t rank) {
    Symbol &left = symbols[position];
    if (left.token == noToken)
      return;
    const BlobMerge *merge = mergeAt(position);
    if (!merge || merge->rank != rank)
      return;
    Symbol &right = symbols[left.next];
    left.token = merge->result;
    left.next = right.next;
    right.token = noToken;
    if (left.next != none)
      symbols[left.next].previous = position;
    if (left.previous != none)
      push(left.previous);
    push(position);
  }

  const Impl &tokenizer;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> queue;
};

} // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Error Tokenizer::create(std::span<const uint8_t> blob,
                        std::unique_ptr<Tokenizer> &tokenizer) {
  auto damaged = [](const char *what) {
    return Error(std::string("the tokenizer is damaged: ") + what);
  };
  auto impl = std::make_unique<Impl>();
  impl->blob = blob.data();
  impl->header = reinterpret_cast<const TokenizerBlobHeader *>(blob.data());
  if (blob.size() < sizeof(TokenizerBlobHeader) ||
      impl->header->magic != tokenizerBlobMagic)
    return damaged("no header");
  const TokenizerBlobHeader &header = *impl->header;
  if (header.version != tokenizerBlobVersion)
    return damaged("another version");
  if (header.sizeInBytes > blob.size())
    return damaged("cut short");

  // Contents are the compiler's and covered by the section's hash; here only
  // what would make every access wild.
  auto inside = [&]<typename T>(BlobArray<T> array) {
    return array.offset % alignof(T) == 0 &&
           array.offset + uint64_t(array.count) * sizeof(T) <= blob.size();
  };
  if (!inside(header.tokenEnds) || !inside(header.tokenBytes) ||
      !inside(header.tokenFlags) || !inside(header.vocabulary) ||
      !inside(header.merges) || !inside(header.mergeTable) ||
      !inside(header.steps) || !inside(header.addedTokens[0]) ||
      !inside(header.addedTokens[1]) || !inside(header.prefix) ||
      !inside(header.suffix))
    return damaged("an array leaves it");
  if (!std::has_single_bit(header.vocabulary.count) ||
      !std::has_single_bit(header.mergeTable.count) ||
      header.addedTokens[0].count == 0 || header.addedTokens[1].count == 0 ||
      header.tokenFlags.count != header.tokenEnds.count)
    return damaged("an array has an impossible size");

  for (const BlobStep &step : impl->array(header.steps)) {
    Pattern &pattern = impl->patterns.emplace_back();
    if (step.kind != StepKind::Split)
      continue;
    if (!inside(step.pattern))
      return damaged("a pattern leaves it");
    auto source = impl->array(step.pattern);
    if (Error error = pattern.compile({source.data(), source.size()}))
      return error;
  }
  // \w as the Rust crate regex defines it.
  if (Error error = impl->word.compile(
          R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])"))
    return error;
  tokenizer.reset(new Tokenizer(std::move(impl)));
  return Error::success();
}

Error Tokenizer::encode(std::string_view text, const EncodeOptions &options,
                        std::vector<int32_t> &tokens) const {
  std::string repaired;
  if (!isUtf8(text))
    text = repaired = repairUtf8(text);
  if (text.size() > INT32_MAX)
    return Error("the text is longer than 2 GiB");

  Pattern::Searcher searcher;
  Merger merger(*impl);
  Error error = Error::success();
  auto encodeText = [&](std::string_view segment) {
    if (error)
      return;
    Pieces pieces(segment);
    error = impl->cut(pieces, segment.data() == text.data(), searcher);
    if (error)
      return;
    for (Pieces::Range range : pieces.ranges)
      merger.merge(pieces[range], tokens);
  };
  auto visit = [&](auto splitFurther) {
    return [&, splitFurther](std::string_view segment, int32_t token) {
      if (token != noToken)
        tokens.push_back(token);
      else
        splitFurther(segment);
    };
  };

  auto append = [&](BlobArray<int32_t> around) {
    if (options.addSpecial)
      for (int32_t token : impl->array(around))
        tokens.push_back(token);
  };
  append(impl->header->prefix);
  impl->splitOnAdded(0, text, options.allowSpecial, searcher,
                     visit([&](std::string_view segment) {
                       impl->splitOnAdded(1, segment, options.allowSpecial,
                                          searcher, visit(encodeText));
                     }));
  append(impl->header->suffix);
  return error;
}

std::string_view Tokenizer::bytes(int32_t token) const {
  return impl->bytes(token);
}

bool Tokenizer::isSpecial(int32_t token) const {
  auto flags = impl->array(impl->header->tokenFlags);
  return token >= 0 && static_cast<size_t>(token) < flags.size() &&
         (flags[token] & TokenSpecial);
}

std::string Tokenizer::decode(std::span<const int32_t> tokens,
                              bool skipSpecial) const {
  std::string out;
  for (int32_t token : tokens)
    if (!skipSpecial || !isSpecial(token))
      out.append(bytes(token));
  if (impl->header->stripsSpace && out.starts_with(' '))
    out.erase(0, 1);
  return repairUtf8(out);
}

int32_t Tokenizer::find(std::string_view wanted) const {
  auto flags = impl->array(impl->header->tokenFlags);
  for (size_t token = 0; token < flags.size(); ++token)
    if ((flags[token] & TokenAdded) &&
        impl->bytes(static_cast<int32_t>(token)) == wanted)
      return static_cast<int32_t>(token);
  return impl->lookup(wanted);
}

int32_t Tokenizer::numTokens() const {
  return static_cast<int32_t>(impl->header->tokenEnds.count);
}
int32_t Tokenizer::bosToken() const { return impl->header->bosToken; }
int32_t Tokenizer::eosToken() const { return impl->header->eosToken; }
int32_t Tokenizer::padToken() const { return impl->header->padToken; }
int32_t Tokenizer::unknownToken() const { return impl->header->unknownToken; }
