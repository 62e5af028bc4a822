// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Npy.h"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <unistd.h>

using namespace tercet;

static std::string contents(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Npy, WritesAMatrix) {
  std::string path = testing::TempDir() + "npy-test.npy";
  float values[6] = {1, 2, 3, 4, 5, 6};
  {
    NpyWriter writer;
    ASSERT_FALSE(writer.open(path, "<f4", std::array<int64_t, 2>{2, 3}));
    ASSERT_FALSE(writer.write(values, 3 * sizeof(float)));
    ASSERT_FALSE(writer.write(values + 3, 3 * sizeof(float)));
    EXPECT_NE(access(path.c_str(), F_OK), 0) << "complete or absent";
    ASSERT_FALSE(writer.finish());
  }
  std::string bytes = contents(path);
  ASSERT_EQ(bytes.size(), 128 + sizeof values);
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_NE(bytes.find("'shape': (2, 3)"), std::string::npos);
  EXPECT_EQ(memcmp(bytes.data() + 128, values, sizeof values), 0);
  unlink(path.c_str());
}

TEST(Npy, LeavesNothingUnfinished) {
  std::string path = testing::TempDir() + "npy-unfinished.npy";
  {
    NpyWriter writer;
    ASSERT_FALSE(writer.open(path, "<f4", {}));
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  EXPECT_NE(access((path + ".tmp" + std::to_string(getpid())).c_str(), F_OK),
            0);
}

TEST(Npy, ReportsErrors) {
  NpyWriter missing;
  EXPECT_TRUE(missing.open("/nonexistent/x.npy", "<f4", {}));
  NpyWriter full;
  Error error = full.open("/dev/full", "<f4", {});
  EXPECT_NE(error.message().find("No space"), std::string::npos);
}
