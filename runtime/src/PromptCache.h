// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The state of a sequence as a file: its tokens, and the rows of the KV cache
// that they use. It belongs to a model and an element of the KV cache; target,
// packing, head and context may differ, since the bytes do not depend on them.

#ifndef TERCET_RUNTIME_PROMPTCACHE_H
#define TERCET_RUNTIME_PROMPTCACHE_H

#include "runtime/src/Session.h"

namespace tercet {

class PromptCache {
public:
  PromptCache() = default;
  PromptCache(const PromptCache &) = delete;
  ~PromptCache();

  /// Checks everything but the rows.
  Error open(const std::string &path, const Artifact &artifact);

  TokenSpan tokens() const { return ids; }

  /// Makes a slot hold the first `length` tokens, for which there must be room.
  /// When a row turns out to be damaged, the slot is left empty.
  Error load(Session &session, uint32_t slot, uint32_t length) const;

  static Error save(const std::string &path, const Artifact &artifact,
                    Session &session, uint32_t slot);

private:
  Error readAt(void *data, uint64_t size, uint64_t offset) const;

  std::string path;
  int file = -1;
  std::vector<int32_t> ids;
  std::vector<uint64_t> rowHashes;
  uint64_t firstRow = 0; ///< offset in the file
};

} // namespace tercet

#endif // TERCET_RUNTIME_PROMPTCACHE_H
