// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_MEMORY_H
#define TERCET_RUNTIME_MEMORY_H

#include <cstdint>
#include <utility>

namespace tercet {

/// Zeroed anonymous memory, committed on first touch.
class PageMemory {
public:
  /// Huge ones for what is used as a whole. Small ones for what is used here
  /// and there: a sequence of a few tokens touches a piece of the KV cache for
  /// each layer, head, and keys or values, which would each cost a huge page.
  enum class Pages { Huge, Small };

  PageMemory() = default;
  /// Null data() when the system refuses.
  explicit PageMemory(uint64_t size, Pages pages = Pages::Huge);
  ~PageMemory();
  PageMemory(PageMemory &&other) { swap(other); }
  PageMemory &operator=(PageMemory &&other) {
    swap(other);
    return *this;
  }

  void *data() const { return start; }
  uint64_t size() const { return sizeInBytes; }

private:
  void swap(PageMemory &other) {
    std::swap(start, other.start);
    std::swap(mapping, other.mapping);
    std::swap(mappedSize, other.mappedSize);
    std::swap(sizeInBytes, other.sizeInBytes);
  }

  void *start = nullptr, *mapping = nullptr;
  uint64_t mappedSize = 0, sizeInBytes = 0;
};

/// Maps the pages of a file mapping ahead of use. Silently does nothing where
/// the kernel cannot (before 5.14): the first touch then faults them in.
void populateForReading(const void *begin, uint64_t size);

/// For memory that starts at a multiple of 2 MiB.
void adviseHugePages(void *begin, uint64_t size);

/// The most memory that this process has had.
uint64_t peakMemoryInBytes();

} // namespace tercet

#endif // TERCET_RUNTIME_MEMORY_H
