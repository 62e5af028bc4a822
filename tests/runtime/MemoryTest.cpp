// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Memory.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace tercet;

/// A sequence of a few tokens touches the beginning of a KV cache.
TEST(Memory, CostsWhatIsTouched) {
  constexpr uint64_t HugePage = uint64_t(2) << 20;
  PageMemory memory(16 * HugePage);
  char *data = static_cast<char *>(memory.data());
  ASSERT_NE(data, nullptr);
  data[HugePage / 2] = 1;
  std::vector<unsigned char> resident(memory.size() / sysconf(_SC_PAGESIZE));
  ASSERT_EQ(mincore(data, memory.size(), resident.data()), 0);
  EXPECT_LE(std::count_if(resident.begin(), resident.end(),
                          [](unsigned char page) { return page & 1; }),
            int64_t(HugePage / sysconf(_SC_PAGESIZE)));
}
