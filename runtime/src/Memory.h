// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_RUNTIME_MEMORY_H
#define TERCET_RUNTIME_MEMORY_H

#include <cstdint>
#include <utility>

namespace tercet {

/// Zeroed anonymous memory that asks for huge pages and is committed on first
/// touch, so a KV cache sized for the full context costs what is used of it.
class HugeMemory {
public:
  HugeMemory() = default;
  /// Null data() when the system refuses.
  explicit HugeMemory(uint64_t size);
  ~HugeMemory();
  HugeMemory(HugeMemory &&other) { swap(other); }
  HugeMemory &operator=(HugeMemory &&other) {
    swap(other);
    return *this;
  }

  void *data() const { return start; }
  uint64_t size() const { return sizeInBytes; }

private:
  void swap(HugeMemory &other) {
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

} // namespace tercet

#endif // TERCET_RUNTIME_MEMORY_H
