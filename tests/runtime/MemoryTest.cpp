// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Memory.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace tercet;

/// A sequence of a few tokens touches a little everywhere in a KV cache.
TEST(Memory, SmallPagesCostWhatIsTouched) {
  constexpr uint64_t Stride = uint64_t(2) << 20, Count = 16;
  PageMemory memory(Stride * Count, PageMemory::Pages::Small);
  char *data = static_cast<char *>(memory.data());
  ASSERT_NE(data, nullptr);
  for (uint64_t i = 0; i < Count; ++i)
    data[i * Stride + Stride / 2] = 1;
  std::vector<unsigned char> resident(memory.size() / sysconf(_SC_PAGESIZE));
  ASSERT_EQ(mincore(data, memory.size(), resident.data()), 0);
  EXPECT_EQ(std::count_if(resident.begin(), resident.end(),
                          [](unsigned char page) { return page & 1; }),
            int64_t(Count));
}
