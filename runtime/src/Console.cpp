// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Console.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

using namespace tercet;

Error tercet::writeOutput(std::string_view text) {
  while (!text.empty()) {
    ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return errnoError("write to stdout");
    text.remove_prefix(written);
  }
  return Error::success();
}

void tercet::note(const char *pattern, ...) {
  va_list args;
  va_start(args, pattern);
  vfprintf(stderr, pattern, args);
  va_end(args);
  fputc('\n', stderr);
}

Error tercet::readFile(const std::string &path, std::string &text) {
  bool isStdin = path == "-";
  int file = isStdin ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ssize_t got = file < 0 ? -1 : 1;
  char buffer[1 << 16];
  while (got > 0) {
    got = read(file, buffer, sizeof buffer);
    if (got > 0)
      text.append(buffer, got);
  }
  Error error = got < 0 ? errnoError("read " + (isStdin ? "stdin" : path))
                        : Error::success();
  if (file >= 0 && !isStdin)
    close(file);
  return error;
}

double tercet::secondsNow() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

//===----------------------------------------------------------------------===//
// Progress
//===----------------------------------------------------------------------===//

Progress::Progress(const char *label, uint64_t total)
    : label(label), total(total), started(secondsNow()), drawn(started),
      onTerminal(isatty(STDERR_FILENO)) {}

Progress::~Progress() {
  if (visible)
    fputs("\r\x1b[K", stderr);
}

void Progress::update(uint64_t done) {
  double now = secondsNow();
  if (!onTerminal || done == 0 || now - drawn < 0.2)
    return;
  constexpr int Width = 30;
  int filled = static_cast<int>(Width * done / total);
  double left = (now - started) / done * (total - done);
  fprintf(stderr, "\r\x1b[K%s [%.*s%*s] %llu/%llu, %.0f s left", label, filled,
          "##############################", Width - filled, "",
          (unsigned long long)done, (unsigned long long)total, left);
  drawn = now;
  visible = true;
}
