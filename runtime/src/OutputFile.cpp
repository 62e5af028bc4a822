// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/OutputFile.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace tercet;

OutputFile::~OutputFile() {
  if (file < 0)
    return;
  close(file);
  if (temporary != path)
    unlink(temporary.c_str());
}

Error OutputFile::open(const std::string &target) {
  path = target;
  // A device such as /dev/stdout cannot be replaced by renaming.
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
    temporary = path;
    file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    temporary = path + format(".tmp%d", static_cast<int>(getpid()));
    file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                  0666);
  }
  if (file < 0)
    return errnoError("write " + path);
  return Error::success();
}

Error OutputFile::write(const void *data, uint64_t size) {
  for (auto *bytes = static_cast<const char *>(data); size;) {
    ssize_t written = ::write(file, bytes, size);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return errnoError("write " + path);
    bytes += written;
    size -= written;
  }
  return Error::success();
}

Error OutputFile::finish() {
  int closed = close(file);
  file = -1;
  if (closed == 0 &&
      (temporary == path || rename(temporary.c_str(), path.c_str()) == 0))
    return Error::success();
  Error error = errnoError("write " + path);
  if (temporary != path)
    unlink(temporary.c_str());
  return error;
}
