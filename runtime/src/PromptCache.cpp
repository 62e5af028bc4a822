// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/PromptCache.h"
#include "runtime/src/OutputFile.h"

#include <cassert>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace tercet;

namespace {
/// The file: this, the tokens, a hash for each TERCET_KV_BLOCK positions, and
/// their rows of the KV cache.
struct Header {
  uint64_t magic;
  uint32_t version, kvElement;
  uint64_t modelHash;
  uint32_t numTokens, reserved; // 0
  uint64_t rowSize;
  uint64_t hash; // of this (with 0 here), the tokens and the hashes
};
} // namespace

static constexpr uint64_t Magic = 0x564b'5445'4352'4554; // "TERCETKV"
/// Also of what steps write to the KV cache (docs/numerics.md).
static constexpr uint32_t Version = 2;

static uint64_t numRows(uint64_t numTokens) {
  return (numTokens + TERCET_KV_BLOCK - 1) / TERCET_KV_BLOCK;
}

static uint64_t hashHeader(Header header, TokenSpan tokens,
                           const std::vector<uint64_t> &rowHashes) {
  header.hash = 0;
  uint64_t hash = hashBytes(&header, sizeof header);
  hash = hashBytes(tokens.data(), tokens.size_bytes(), hash);
  return hashBytes(rowHashes.data(), rowHashes.size() * sizeof(uint64_t), hash);
}

static const char *elementName(uint32_t element) {
  static constexpr const char *Names[] = {"f32", "bf16", "int8"};
  return element < std::size(Names) ? Names[element] : "unknown";
}

/// The header of a file with these tokens, but for the hash.
static Header makeHeader(const Artifact &artifact, size_t numTokens) {
  const tercet_blob_header &blob = artifact.header();
  return {Magic,
          Version,
          blob.kv_element,
          blob.model_hash,
          static_cast<uint32_t>(numTokens),
          0,
          artifact.kvRowSize(),
          0};
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

PromptCache::~PromptCache() {
  if (file >= 0)
    close(file);
}

static Error damaged(const std::string &path) {
  return Error(path + " is damaged: delete it, it will be written again");
}

Error PromptCache::readAt(void *data, uint64_t size, uint64_t offset) const {
  for (auto *bytes = static_cast<char *>(data); size;) {
    ssize_t got = pread(file, bytes, size, offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return errnoError("read " + path);
    if (got == 0)
      return damaged(path);
    bytes += got;
    offset += got;
    size -= got;
  }
  return Error::success();
}

Error PromptCache::open(const std::string &name, const Artifact &artifact) {
  path = name;
  file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0)
    return errnoError("read " + path);
  Header header;
  uint64_t size = S_ISREG(status.st_mode) ? status.st_size : 0;
  if (size >= sizeof header)
    if (Error error = readAt(&header, sizeof header, 0))
      return error;
  if (size < sizeof header || header.magic != Magic)
    return Error(path + " is no prompt cache: give another name");
  if (header.version != Version)
    return Error(format("%s has format %u and this program reads format %u: "
                        "delete it",
                        path.c_str(), header.version, Version));
  Header expected = makeHeader(artifact, header.numTokens);
  if (header.modelHash != expected.modelHash)
    return Error(path + " belongs to another model: give another name, or "
                        "delete it");
  if (header.kvElement != expected.kvElement)
    return Error(format("%s holds %s keys and values and this program has %s "
                        "ones (--kv): give another name, or delete it",
                        path.c_str(), elementName(header.kvElement),
                        elementName(expected.kvElement)));
  if (header.rowSize != expected.rowSize)
    return damaged(path);
  uint64_t rows = numRows(header.numTokens);
  firstRow = sizeof header + header.numTokens * sizeof(int32_t) +
             rows * sizeof(uint64_t);
  if (size != firstRow + rows * header.rowSize)
    return damaged(path);

  ids.resize(header.numTokens);
  rowHashes.resize(rows);
  uint64_t tokensSize = ids.size() * sizeof(int32_t);
  if (Error error = readAt(ids.data(), tokensSize, sizeof header))
    return error;
  if (Error error = readAt(rowHashes.data(), rows * sizeof(uint64_t),
                           sizeof header + tokensSize))
    return error;
  if (hashHeader(header, ids, rowHashes) != header.hash)
    return damaged(path);
  return Error::success();
}

Error PromptCache::load(Session &session, uint32_t slot,
                        uint32_t length) const {
  assert(length <= ids.size() && length <= session.context());
  session.truncate(slot, 0);
  for (uint32_t row = 0; row < numRows(length); ++row) {
    std::span<char> bytes = session.kvRow(slot, row);
    if (Error error =
            readAt(bytes.data(), bytes.size(), firstRow + row * bytes.size()))
      return error;
    if (hashBytes(bytes.data(), bytes.size()) != rowHashes[row])
      return damaged(path);
  }
  session.adopt(slot, tokens().first(length));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Error PromptCache::save(const std::string &path, const Artifact &artifact,
                        Session &session, uint32_t slot) {
  TokenSpan tokens = session.tokens(slot);
  std::vector<uint64_t> rowHashes(numRows(tokens.size()));
  for (uint32_t row = 0; row < rowHashes.size(); ++row) {
    std::span<char> bytes = session.kvRow(slot, row);
    rowHashes[row] = hashBytes(bytes.data(), bytes.size());
  }
  Header header = makeHeader(artifact, tokens.size());
  header.hash = hashHeader(header, tokens, rowHashes);

  OutputFile file;
  if (Error error = file.open(path))
    return error;
  if (Error error = file.write(&header, sizeof header))
    return error;
  if (Error error = file.write(tokens.data(), tokens.size_bytes()))
    return error;
  if (Error error =
          file.write(rowHashes.data(), rowHashes.size() * sizeof(uint64_t)))
    return error;
  for (uint32_t row = 0; row < rowHashes.size(); ++row) {
    std::span<char> bytes = session.kvRow(slot, row);
    if (Error error = file.write(bytes.data(), bytes.size()))
      return error;
  }
  return file.finish();
}
