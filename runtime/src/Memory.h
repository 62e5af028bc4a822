// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_MEMORY_H
#define TERCET_RUNTIME_MEMORY_H

#include <cstdint>
#include <utility>

namespace tercet {

/// Zeroed anonymous memory in huge pages, committed on first touch.
class PageMemory {
public:
  PageMemory() = default;
  /// Null data() when the system refuses.
  explicit PageMemory(uint64_t size);
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
void adviseHugePages(const void *begin, uint64_t size);

/// The most memory that this process has had.
uint64_t peakMemoryInBytes();

} // namespace tercet

#endif // TERCET_RUNTIME_MEMORY_H
