// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/TuningDatabase.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <sqlite3.h>

using namespace llvm;
using namespace tercet;

/// "Trct", and the version of the schema.
static constexpr int64_t kApplicationId = 0x54726374, kSchemaVersion = 1;

static constexpr int kBusyMilliseconds = 10000;

static constexpr const char *kSchema = R"sql(
  CREATE TABLE cpu (
    identity TEXT PRIMARY KEY, description TEXT NOT NULL
  ) STRICT;
  CREATE TABLE result (
    cpu TEXT NOT NULL, bandwidth_class INTEGER NOT NULL,
    compiler TEXT NOT NULL, target TEXT NOT NULL, threads INTEGER NOT NULL,
    op TEXT NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL,
    home TEXT NOT NULL, batch TEXT NOT NULL,
    layout TEXT NOT NULL, seconds REAL NOT NULL, spread REAL NOT NULL,
    date TEXT NOT NULL,
    PRIMARY KEY (cpu, bandwidth_class, compiler, target, threads, op, rows,
                 cols, home, batch)
  ) STRICT;
  PRAGMA application_id = 1416782708;
  PRAGMA user_version = 1;
)sql";

static void bindText(sqlite3_stmt *statement, int index, StringRef text) {
  sqlite3_bind_text(statement, index, text.data(), int(text.size()),
                    SQLITE_TRANSIENT);
}

static std::string getText(sqlite3_stmt *statement, int column) {
  auto *text =
      reinterpret_cast<const char *>(sqlite3_column_text(statement, column));
  return std::string(text, sqlite3_column_bytes(statement, column));
}

/// The ten columns of a key, in the order of the schema.
static void bindKey(sqlite3_stmt *statement, const TuningKey &key) {
  bindText(statement, 1, key.cpu);
  sqlite3_bind_int64(statement, 2, key.bandwidthClass);
  bindText(statement, 3, key.compiler);
  bindText(statement, 4, key.target);
  sqlite3_bind_int64(statement, 5, key.threads);
  bindText(statement, 6, key.op);
  sqlite3_bind_int64(statement, 7, key.rows);
  sqlite3_bind_int64(statement, 8, key.cols);
  bindText(statement, 9, key.home);
  bindText(statement, 10, key.batch);
}

static TuningResult getResult(sqlite3_stmt *statement, int column) {
  return {getText(statement, column),
          sqlite3_column_double(statement, column + 1),
          sqlite3_column_double(statement, column + 2),
          getText(statement, column + 3)};
}

//===----------------------------------------------------------------------===//
// Opening
//===----------------------------------------------------------------------===//

std::string TuningDatabase::getDefaultPath() {
  SmallString<128> path;
  if (!sys::path::cache_directory(path))
    return "";
  sys::path::append(path, "tercet", "tuning.db");
  return path.str().str();
}

TuningDatabase::TuningDatabase(TuningDatabase &&other)
    : db(std::exchange(other.db, nullptr)) {}

TuningDatabase::~TuningDatabase() { sqlite3_close(db); }

Error TuningDatabase::fail() {
  return createStringError(StringRef(sqlite3_db_filename(db, "main")) + ": " +
                           sqlite3_errmsg(db));
}

Expected<TuningDatabase> TuningDatabase::open(StringRef path, int flags) {
  sqlite3 *handle;
  int status =
      sqlite3_open_v2(path.str().c_str(), &handle, flags, /*zVfs=*/nullptr);
  TuningDatabase database(handle);
  if (status != SQLITE_OK)
    return createStringError(path + ": " + sqlite3_errstr(status));
  sqlite3_busy_timeout(handle, kBusyMilliseconds);
  return database;
}

Expected<TuningDatabase> TuningDatabase::openToRead(StringRef path) {
  auto database = open(path, SQLITE_OPEN_READWRITE);
  if (!database)
    return database.takeError();
  if (Error error = database->check())
    return std::move(error);
  return database;
}

Expected<TuningDatabase> TuningDatabase::openToWrite(StringRef path) {
  StringRef directory = sys::path::parent_path(path);
  if (!directory.empty())
    if (std::error_code code = sys::fs::create_directories(directory))
      return createFileError(directory, code);
  auto database = open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (!database)
    return database.takeError();
  if (Error error = database->create())
    return std::move(error);
  if (Error error = database->check())
    return std::move(error);
  return database;
}

/// Makes an empty file a database. Whoever comes second finds it made.
Error TuningDatabase::create() {
  return inTransaction([&]() -> Error {
    int64_t numTables = 0;
    if (Error error = query(
            "SELECT count(*) FROM sqlite_schema", [](sqlite3_stmt *) {},
            [&](sqlite3_stmt *row) {
              numTables = sqlite3_column_int64(row, 0);
            }))
      return error;
    return numTables == 0 ? execute(kSchema) : Error::success();
  });
}

Error TuningDatabase::check() {
  int64_t id = 0, version = 0;
  auto read = [&](const char *sql, int64_t &value) {
    return query(
        sql, [](sqlite3_stmt *) {},
        [&](sqlite3_stmt *row) { value = sqlite3_column_int64(row, 0); });
  };
  if (Error error = read("PRAGMA application_id", id))
    return error;
  if (Error error = read("PRAGMA user_version", version))
    return error;
  StringRef path = sqlite3_db_filename(db, "main");
  if (id != kApplicationId)
    return createStringError(path + ": not a tuning database");
  if (version != kSchemaVersion)
    return createStringError(path + ": a tuning database of another version");
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

Error TuningDatabase::execute(const char *sql) {
  return sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK
             ? Error::success()
             : fail();
}

/// IMMEDIATE: who waits for another writer waits here, and not with a
/// transaction half done.
Error TuningDatabase::inTransaction(function_ref<Error()> body) {
  if (Error error = execute("BEGIN IMMEDIATE"))
    return error;
  if (Error error = body()) {
    consumeError(execute("ROLLBACK"));
    return error;
  }
  return execute("COMMIT");
}

Error TuningDatabase::query(const char *sql,
                            function_ref<void(sqlite3_stmt *)> bind,
                            function_ref<void(sqlite3_stmt *)> onRow) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK)
    return fail();
  bind(statement);
  int status;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW)
    onRow(statement);
  Error error = status == SQLITE_DONE ? Error::success() : fail();
  sqlite3_finalize(statement);
  return error;
}

Expected<std::optional<CpuDescription>>
TuningDatabase::findCpu(StringRef identity) {
  std::optional<std::string> text;
  if (Error error = query(
          "SELECT description FROM cpu WHERE identity = ?",
          [&](sqlite3_stmt *statement) { bindText(statement, 1, identity); },
          [&](sqlite3_stmt *row) { text = getText(row, 0); }))
    return std::move(error);
  if (!text)
    return std::nullopt;
  auto cpu = json::parse<CpuDescription>(*text);
  if (!cpu)
    return cpu.takeError();
  return std::move(*cpu);
}

/// Of a description and the stored one, the newer has the say, except that
/// targets which only the older one has are kept.
Error TuningDatabase::insertCpu(const CpuDescription &cpu) {
  auto stored = findCpu(cpu.getIdentity());
  if (!stored)
    return stored.takeError();
  CpuDescription merged = cpu;
  if (*stored) {
    if ((*stored)->date > cpu.date)
      std::swap(merged, **stored);
    merged.rates.insert((*stored)->rates.begin(), (*stored)->rates.end());
  }
  std::string text;
  raw_string_ostream(text) << json::Value(toJSON(merged));
  return query(
      "INSERT OR REPLACE INTO cpu VALUES (?, ?)",
      [&](sqlite3_stmt *statement) {
        bindText(statement, 1, cpu.getIdentity());
        bindText(statement, 2, text);
      },
      [](sqlite3_stmt *) {});
}

Error TuningDatabase::storeCpu(const CpuDescription &cpu) {
  return inTransaction([&] { return insertCpu(cpu); });
}

Expected<std::optional<TuningResult>>
TuningDatabase::find(const TuningKey &key) {
  std::optional<TuningResult> result;
  if (Error error = query(
          "SELECT layout, seconds, spread, date FROM result WHERE cpu = ? AND "
          "bandwidth_class = ? AND compiler = ? AND target = ? AND threads = ? "
          "AND op = ? AND rows = ? AND cols = ? AND home = ? AND batch = ?",
          [&](sqlite3_stmt *statement) { bindKey(statement, key); },
          [&](sqlite3_stmt *row) { result = getResult(row, 0); }))
    return std::move(error);
  return result;
}

Error TuningDatabase::insert(const TuningRecord &record) {
  const TuningResult &result = record.second;
  return query(
      "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
      "ON CONFLICT DO UPDATE SET layout = excluded.layout, "
      "seconds = excluded.seconds, spread = excluded.spread, "
      "date = excluded.date WHERE excluded.date >= date",
      [&](sqlite3_stmt *statement) {
        bindKey(statement, record.first);
        bindText(statement, 11, result.layout);
        sqlite3_bind_double(statement, 12, result.seconds);
        sqlite3_bind_double(statement, 13, result.spread);
        bindText(statement, 14, result.date);
      },
      [](sqlite3_stmt *) {});
}

Error TuningDatabase::store(ArrayRef<TuningRecord> records) {
  return inTransaction([&]() -> Error {
    for (const TuningRecord &record : records)
      if (Error error = insert(record))
        return error;
    return Error::success();
  });
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

namespace tercet {

/// What export writes and import reads.
struct Exchange {
  int64_t version;
  std::vector<CpuDescription> cpus;
  std::vector<TuningRecord> results;
};

static json::Value toJSON(const TuningRecord &record) {
  const auto &[key, result] = record;
  return json::Object{
      {"cpu", key.cpu},           {"bandwidth_class", key.bandwidthClass},
      {"compiler", key.compiler}, {"target", key.target},
      {"threads", key.threads},   {"op", key.op},
      {"rows", key.rows},         {"cols", key.cols},
      {"home", key.home},         {"batch", key.batch},
      {"layout", result.layout},  {"seconds", result.seconds},
      {"spread", result.spread},  {"date", result.date}};
}

static bool fromJSON(const json::Value &value, Exchange &exchange,
                     json::Path path) {
  json::ObjectMapper map(value, path);
  if (!map || !map.map("version", exchange.version))
    return false;
  if (exchange.version != kSchemaVersion) {
    path.field("version").report("another version than this compiler's");
    return false;
  }
  if (!map.map("cpus", exchange.cpus))
    return false;
  const json::Array *results = value.getAsObject()->getArray("results");
  if (!results) {
    path.field("results").report("expected array");
    return false;
  }
  for (auto [index, element] : enumerate(*results)) {
    auto &[key, result] = exchange.results.emplace_back();
    json::ObjectMapper of(element, path.field("results").index(index));
    if (!of || !of.map("cpu", key.cpu) ||
        !of.map("bandwidth_class", key.bandwidthClass) ||
        !of.map("compiler", key.compiler) || !of.map("target", key.target) ||
        !of.map("threads", key.threads) || !of.map("op", key.op) ||
        !of.map("rows", key.rows) || !of.map("cols", key.cols) ||
        !of.map("home", key.home) || !of.map("batch", key.batch) ||
        !of.map("layout", result.layout) ||
        !of.map("seconds", result.seconds) ||
        !of.map("spread", result.spread) || !of.map("date", result.date))
      return false;
  }
  return true;
}

} // namespace tercet

Error TuningDatabase::exportTo(raw_ostream &out) {
  json::Array cpus, results;
  Error parseErrors = Error::success();
  if (Error error = query(
          "SELECT description FROM cpu ORDER BY identity",
          [](sqlite3_stmt *) {},
          [&](sqlite3_stmt *row) {
            if (auto cpu = json::parse(getText(row, 0)))
              cpus.push_back(std::move(*cpu));
            else
              parseErrors = joinErrors(std::move(parseErrors), cpu.takeError());
          }))
    return joinErrors(std::move(parseErrors), std::move(error));
  if (parseErrors)
    return parseErrors;
  if (Error error = query(
          "SELECT * FROM result ORDER BY cpu, target, op, rows, cols, batch",
          [](sqlite3_stmt *) {},
          [&](sqlite3_stmt *row) {
            TuningKey key = {getText(row, 0),
                             sqlite3_column_int64(row, 1),
                             getText(row, 2),
                             getText(row, 3),
                             sqlite3_column_int64(row, 4),
                             getText(row, 5),
                             sqlite3_column_int64(row, 6),
                             sqlite3_column_int64(row, 7),
                             getText(row, 8),
                             getText(row, 9)};
            results.push_back(
                tercet::toJSON(TuningRecord(key, getResult(row, 10))));
          }))
    return error;
  json::OStream(out, /*IndentSize=*/1)
      .value(json::Object{{"version", kSchemaVersion},
                          {"cpus", std::move(cpus)},
                          {"results", std::move(results)}});
  out << "\n";
  return Error::success();
}

Expected<int64_t> TuningDatabase::importFrom(StringRef text) {
  auto exchange = json::parse<Exchange>(text);
  if (!exchange)
    return exchange.takeError();
  if (Error error = inTransaction([&]() -> Error {
        for (const CpuDescription &cpu : exchange->cpus)
          if (Error error = insertCpu(cpu))
            return error;
        for (const TuningRecord &record : exchange->results)
          if (Error error = insert(record))
            return error;
        return Error::success();
      }))
    return std::move(error);
  return exchange->results.size();
}
