// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What tuning has found out, in one SQLite file: the CPUs that were measured,
// and for each matmul the layout that won. Every change is a transaction of its
// own, so a tuner may be killed at any time and several may write at once. The
// journal is SQLite's default one: a reader needs to write nothing.

#ifndef TERCET_COMPILER_TUNE_TUNINGDATABASE_H
#define TERCET_COMPILER_TUNE_TUNINGDATABASE_H

#include "compiler/Target/CpuDescription.h"

#include "llvm/ADT/FunctionExtras.h"

#include <memory>
#include <optional>

struct sqlite3;
struct sqlite3_stmt;

namespace tercet {

/// What a result is valid for.
struct TuningKey {
  std::string cpu; ///< CpuDescription::getIdentity
  int64_t bandwidthClass = 0;
  std::string compiler, target;
  int64_t threads = 1;
  std::string op; ///< "matmul", or "matmul group=128"
  int64_t rows = 0, cols = 0;
  std::string home;  ///< level that holds the model's weights
  std::string batch; ///< "decode" or "prefill"
};

struct TuningResult {
  std::string layout; ///< as MLIR prints it
  double seconds = 0, spread = 0;
  std::string date;
};

using TuningRecord = std::pair<TuningKey, TuningResult>;

class TuningDatabase {
public:
  /// In XDG_CACHE_HOME or ~/.cache; empty if there is no such place.
  static std::string getDefaultPath();

  /// Creates the file, if need be, to write; to read it has to exist. A file
  /// that is no tuning database is an error, and is left as it is.
  static llvm::Expected<TuningDatabase> openToWrite(llvm::StringRef path);
  static llvm::Expected<TuningDatabase> openToRead(llvm::StringRef path);
  TuningDatabase(TuningDatabase &&);
  ~TuningDatabase();

  llvm::Expected<std::optional<CpuDescription>>
  findCpu(llvm::StringRef identity);
  llvm::Error storeCpu(const CpuDescription &cpu);

  llvm::Expected<std::optional<TuningResult>> find(const TuningKey &key);
  /// All of them, or none.
  llvm::Error store(llvm::ArrayRef<TuningRecord> records);

  /// One JSON object.
  llvm::Error exportTo(llvm::raw_ostream &out);
  /// Returns the number of results. What is there already and newer is kept.
  llvm::Expected<int64_t> importFrom(llvm::StringRef json);

private:
  explicit TuningDatabase(sqlite3 *db) : db(db) {}
  static llvm::Expected<TuningDatabase> open(llvm::StringRef path, int flags);

  llvm::Error check();
  llvm::Error create();
  llvm::Error execute(const char *sql);
  llvm::Error inTransaction(llvm::function_ref<llvm::Error()> body);
  /// Runs a statement and calls `onRow` for each row.
  llvm::Error query(const char *sql,
                    llvm::function_ref<void(sqlite3_stmt *)> bind,
                    llvm::function_ref<void(sqlite3_stmt *)> onRow);
  llvm::Error insert(const TuningRecord &record);
  llvm::Error insertCpu(const CpuDescription &cpu);
  llvm::Error fail();

  sqlite3 *db;
};

} // namespace tercet

#endif // TERCET_COMPILER_TUNE_TUNINGDATABASE_H
