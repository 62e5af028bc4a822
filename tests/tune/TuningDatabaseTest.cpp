// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/TuningDatabase.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

#include <csignal>
#include <random>
#include <sqlite3.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace llvm;
using namespace tercet;

namespace {

class TuningDatabaseTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(sys::fs::createUniqueDirectory("tercet-tune", directory));
    path = (directory + "/some/where/tuning.db").str();
  }
  void TearDown() override { sys::fs::remove_directories(directory); }

  TuningDatabase open() { return cantFail(TuningDatabase::openToWrite(path)); }
  void write(StringRef bytes) {
    path = (directory + "/other.db").str();
    std::error_code code;
    raw_fd_ostream(path, code) << bytes;
  }
  std::string read() {
    return cantFail(errorOrToExpected(MemoryBuffer::getFile(path)))
        ->getBuffer()
        .str();
  }
  std::string exportAll() {
    std::string text;
    raw_string_ostream out(text);
    cantFail(open().exportTo(out));
    return text;
  }

  SmallString<128> directory;
  std::string path;
};

TuningKey makeKey(int64_t rows, StringRef batch = "decode") {
  return {"cpu",    34,   "tercet", "x86-64-v3", 2,
          "matmul", rows, 2560,     "memory",    batch.str()};
}

TuningResult makeResult(StringRef date = "2026-11-28") {
  return {"#ternary.layout<...>", 1e-4, 0.01, date.str()};
}

bool has(TuningDatabase &database, const TuningKey &key) {
  return cantFail(database.find(key)).has_value();
}

} // namespace

TEST_F(TuningDatabaseTest, FindsWhatWasStored) {
  TuningResult stored = makeResult();
  cantFail(open().store({{makeKey(64), stored}}));
  auto database = cantFail(TuningDatabase::openToRead(path));
  auto found = cantFail(database.find(makeKey(64)));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->layout, stored.layout);
  EXPECT_EQ(found->seconds, stored.seconds);
  EXPECT_EQ(found->spread, stored.spread);
  EXPECT_EQ(found->date, stored.date);
}

TEST_F(TuningDatabaseTest, EveryPartOfAKeyCounts) {
  TuningDatabase database = open();
  cantFail(database.store({{makeKey(64), makeResult()}}));
  auto isMissing = [&](auto change) {
    TuningKey key = makeKey(64);
    change(key);
    return !has(database, key);
  };
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.cpu = "other"; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.bandwidthClass = 35; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.compiler = "other"; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.target = "x86-64-v4"; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.threads = 1; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.op = "matmul group=64"; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.rows = 80; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.cols = 80; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.home = "L3"; }));
  EXPECT_TRUE(isMissing([](TuningKey &k) { k.batch = "prefill"; }));
}

TEST_F(TuningDatabaseTest, KeepsTheNewer) {
  TuningDatabase database = open();
  TuningResult newer = makeResult("2027-01-01");
  newer.seconds = 5;
  cantFail(database.store({{makeKey(64), newer}}));
  cantFail(database.store({{makeKey(64), makeResult()}}));
  EXPECT_EQ(cantFail(database.find(makeKey(64)))->seconds, 5);
}

TEST_F(TuningDatabaseTest, KeepsTargetsOfACpu) {
  CpuDescription cpu;
  cpu.levels = {{"memory", INT64_MAX, 1, 1e10, 1e10}};
  cpu.date = "2026-11-27";
  cpu.rates["a"] = {1, {}};
  TuningDatabase database = open();
  cantFail(database.storeCpu(cpu));
  cpu.date = "2026-11-28";
  cpu.rates = {{"b", {2, {}}}};
  cantFail(database.storeCpu(cpu));
  auto found = cantFail(database.findCpu(cpu.getIdentity()));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->date, "2026-11-28");
  EXPECT_EQ(found->rates.size(), 2u);
  EXPECT_FALSE(cantFail(database.findCpu("other")));
}

TEST_F(TuningDatabaseTest, ToReadItHasToExist) {
  EXPECT_TRUE(errorToBool(TuningDatabase::openToRead(path).takeError()));
  EXPECT_FALSE(sys::fs::exists(path));
}

TEST_F(TuningDatabaseTest, LeavesOtherFilesAlone) {
  write(
      "no database at all, but long enough to have a header of one: 0123456789"
      "0123456789012345678901234567890123456789");
  std::string before = read();
  EXPECT_TRUE(errorToBool(TuningDatabase::openToRead(path).takeError()));
  EXPECT_TRUE(errorToBool(TuningDatabase::openToWrite(path).takeError()));
  EXPECT_EQ(read(), before);
}

TEST_F(TuningDatabaseTest, LeavesOtherDatabasesAlone) {
  write("");
  sqlite3 *other;
  ASSERT_EQ(sqlite3_open(path.c_str(), &other), SQLITE_OK);
  sqlite3_exec(other, "CREATE TABLE t (x)", nullptr, nullptr, nullptr);
  sqlite3_close(other);
  std::string before = read();
  std::string message = toString(TuningDatabase::openToWrite(path).takeError());
  EXPECT_NE(message.find("not a tuning database"), std::string::npos);
  EXPECT_TRUE(errorToBool(TuningDatabase::openToRead(path).takeError()));
  EXPECT_EQ(read(), before);
}

TEST_F(TuningDatabaseTest, RefusesAnotherVersion) {
  open();
  sqlite3 *handle;
  ASSERT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
  sqlite3_exec(handle, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
  sqlite3_close(handle);
  EXPECT_NE(toString(TuningDatabase::openToWrite(path).takeError())
                .find("another version"),
            std::string::npos);
}

TEST_F(TuningDatabaseTest, RefusesADamagedPage) {
  {
    TuningDatabase database = open();
    for (int64_t rows = 0; rows < 200; ++rows)
      cantFail(database.store({{makeKey(rows), makeResult()}}));
  }
  std::string bytes = read();
  for (size_t at = 4096; at < bytes.size(); ++at)
    bytes[at] = char(at * 7);
  write(bytes);
  auto database = TuningDatabase::openToRead(path);
  if (!database) {
    consumeError(database.takeError());
    return;
  }
  EXPECT_TRUE(errorToBool(database->find(makeKey(64)).takeError()));
}

TEST_F(TuningDatabaseTest, TakesSeveralWriters) {
  constexpr int kWriters = 4, kRecords = 25;
  std::vector<std::thread> writers;
  std::atomic<int> failures = 0;
  for (int writer = 0; writer < kWriters; ++writer)
    writers.emplace_back([&, writer] {
      auto database = TuningDatabase::openToWrite(path);
      if (!database) {
        consumeError(database.takeError());
        ++failures;
        return;
      }
      for (int i = 0; i < kRecords; ++i)
        failures += errorToBool(
            database->store({{makeKey(writer * kRecords + i), makeResult()}}));
    });
  for (std::thread &writer : writers)
    writer.join();
  EXPECT_EQ(failures, 0);
  TuningDatabase database = open();
  for (int rows = 0; rows < kWriters * kRecords; ++rows)
    EXPECT_TRUE(has(database, makeKey(rows))) << rows;
}

/// Killed at any time, a writer leaves whole transactions: of each pair both or
/// none, and all that it has reported.
TEST_F(TuningDatabaseTest, SurvivesKilledWriters) {
  std::mt19937 random(1);
  int64_t firstRow = 0;
  for (int kill = 0; kill < 20; ++kill) {
    int done[2];
    ASSERT_EQ(pipe(done), 0);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      TuningDatabase database = open();
      for (int64_t row = firstRow;; ++row) {
        if (errorToBool(
                database.store({{makeKey(row), makeResult()},
                                {makeKey(row, "prefill"), makeResult()}})))
          _exit(1);
        if (::write(done[1], &row, sizeof(row)) != sizeof(row))
          _exit(1);
      }
    }
    close(done[1]);
    // The first pair makes sure that the child is at work.
    std::vector<int64_t> rows(1);
    ASSERT_EQ(::read(done[0], rows.data(), sizeof(rows[0])),
              ssize_t(sizeof(rows[0])));
    usleep(random() % 20000);
    ::kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    for (int64_t row; ::read(done[0], &row, sizeof(row)) == sizeof(row);)
      rows.push_back(row);
    TuningDatabase database = open();
    for (int64_t row : rows)
      ASSERT_TRUE(has(database, makeKey(row))) << row;
    firstRow = rows.back() + 1;
    close(done[0]);
    ASSERT_EQ(has(database, makeKey(firstRow)),
              has(database, makeKey(firstRow, "prefill")));
  }
}

TEST_F(TuningDatabaseTest, ExportsAndImports) {
  CpuDescription cpu;
  cpu.levels = {{"memory", INT64_MAX, 1, 1e10, 1e10}};
  cpu.date = "2026-11-28";
  {
    TuningDatabase database = open();
    cantFail(database.storeCpu(cpu));
    cantFail(database.store(
        {{makeKey(64), makeResult()}, {makeKey(64, "prefill"), makeResult()}}));
  }
  std::string exported = exportAll();
  path = (directory + "/second.db").str();
  EXPECT_EQ(cantFail(open().importFrom(exported)), 2);
  EXPECT_EQ(exportAll(), exported);
}

TEST_F(TuningDatabaseTest, ImportsAllOrNothing) {
  cantFail(open().store({{makeKey(64), makeResult()}}));
  std::string exported = exportAll();
  std::string wrong = exported;
  wrong.replace(wrong.find("\"seconds\""), 9, "\"minutes\"");
  for (std::string text : {std::string("{"), std::string("[]"), wrong,
                           std::string("{\"version\": 2}"),
                           std::string("{\"version\": 1, \"cpus\": []}")})
    EXPECT_TRUE(errorToBool(open().importFrom(text).takeError())) << text;
  EXPECT_EQ(exportAll(), exported);
}
