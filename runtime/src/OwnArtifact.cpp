// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finding the file behind the mapped blob. Apart from Artifact.cpp because only
// a linked model defines tercet_blob.

#include "runtime/src/Artifact.h"

#include <algorithm>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace tercet;

namespace {
/// The loaded segment that holds the blob.
struct BlobSegment {
  std::string path; // Empty for the executable itself.
  uint64_t fileOffset = 0, fileSize = 0;
};
} // namespace

static int findBlobSegment(dl_phdr_info *info, size_t, void *result) {
  auto blob = reinterpret_cast<uintptr_t>(tercet_blob);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto &segment = info->dlpi_phdr[i];
    uintptr_t offset = blob - (info->dlpi_addr + segment.p_vaddr);
    if (segment.p_type != PT_LOAD || offset >= segment.p_memsz)
      continue;
    auto *found = static_cast<BlobSegment *>(result);
    found->path = info->dlpi_name;
    found->fileOffset = segment.p_offset + offset;
    found->fileSize = segment.p_filesz - offset;
    return 1;
  }
  return 0;
}

/// Size of a file, or -1. Opened, because emulators of other machines answer
/// for the program when /proc/self/exe is opened, and for themselves elsewhere.
static int64_t sizeOfFile(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  int64_t size = file >= 0 && fstat(file, &status) == 0 ? status.st_size : -1;
  if (file >= 0)
    close(file);
  return size;
}

/// How much of the blob the file really holds. The program header says how
/// much it should; only the file's size says what a broken copy left of it.
/// Without /proc the header has to be believed.
static uint64_t availableBlobBytes() {
  BlobSegment segment;
  dl_iterate_phdr(findBlobSegment, &segment);
  const char *path =
      segment.path.empty() ? "/proc/self/exe" : segment.path.c_str();
  int64_t size = sizeOfFile(path);
  if (size < 0)
    return segment.fileSize;
  uint64_t available = static_cast<uint64_t>(size);
  return available < segment.fileOffset
             ? 0
             : std::min(segment.fileSize, available - segment.fileOffset);
}

Error Artifact::openOwn(Artifact &result) {
  return open(tercet_blob, availableBlobBytes(), result);
}
