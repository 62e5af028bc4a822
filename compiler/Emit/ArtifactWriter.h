// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Appends the blob (runtime/include/tercet/artifact.h) to a linked file.

#ifndef TERCET_COMPILER_EMIT_ARTIFACTWRITER_H
#define TERCET_COMPILER_EMIT_ARTIFACTWRITER_H

#include "compiler/Support/WeightPiece.h"
#include "tercet/artifact.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <string>
#include <vector>

namespace tercet {

struct BlobSection {
  tercet_section_kind kind;
  std::string bytes;
};

/// What the blob holds. Of `header`, only the fields that describe target and
/// model are read: magic, sizes and hashes are the writer's.
struct BlobContents {
  tercet_blob_header header = {};
  /// Everything but the weights, in the order of the file.
  std::vector<BlobSection> sections;
  std::vector<WeightPiece> weights;
  uint64_t weightsSize = 0;
};

struct BlobWriteOptions {
  /// Threads that produce weight pieces.
  unsigned threads = 2;
  /// Called with bytes of weights done and in total, from one thread at a
  /// time.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

/// Appends the blob to the linked executable or library `path` and redirects
/// its placeholder section to it, in place:
///
///   linked file            [ code | data | placeholder | symbols ]
///   result  [ code | data | hole | symbols ] pad [ blob: header | weights ]
///                                                ^ multiple of 2 MiB
///
/// The blob of a WebAssembly module is a custom section behind all others:
///
///   module  [ code | data ] [ 0, size, ".tercet", blob ]
///
/// The weights are streamed: produced in parallel, written in order by blocks
/// that are aligned to the page cache's largest page, and hashed on the way.
/// They never pass through the linker, which would need several times their
/// size in memory and cannot place more than 2 GiB.
llvm::Error writeBlob(llvm::StringRef path, const BlobContents &contents,
                      const BlobWriteOptions &options = {});

} // namespace tercet

#endif // TERCET_COMPILER_EMIT_ARTIFACTWRITER_H
