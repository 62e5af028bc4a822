// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/MakePlanner.h"
#include "compiler/Tune/MeasureCpu.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

/// Of --tune=quick.
static constexpr double kQuickSeconds = 10;

std::string tercet::getCompilerVersion() {
  return "tercet " TERCET_VERSION " (LLVM " LLVM_VERSION_STRING ")";
}

static void warn(Progress &progress, Error error) {
  progress.clear();
  errs() << "tercet: warning: " << toString(std::move(error))
         << "; going on with predicted layouts\n";
}

void tercet::showProgress(TunedLayouts &layouts, Progress &progress) {
  layouts.progress = [&](MatmulShape shape, const LayoutChoice &best,
                         double seconds) {
    progress.note(formatv("{0}x{1}, so far {2} with {3:f1} us", shape.rows,
                          shape.cols, stringifyPacking(best.packing),
                          seconds * 1e6)
                      .str());
  };
}

/// This CPU as a database has it, if it was measured for the target.
static Expected<std::optional<CpuDescription>>
findTunedCpu(TuningDatabase &database, const TargetSpec &target) {
  auto identified = identifyCpu();
  if (!identified)
    return identified.takeError();
  auto stored = database.findCpu(identified->getIdentity());
  if (stored && *stored && !(*stored)->rates.contains(target.text))
    stored->reset();
  return stored;
}

/// The cost model of this CPU if code is for it, or of any with the target's
/// instructions.
static Expected<std::unique_ptr<TunedLayouts>>
makeCostModel(const TargetSpec &target) {
  Expected<TargetSpec> native = parseTarget("native");
  if (!native)
    consumeError(native.takeError()); // to compile for others it need not be
                                      // known
  bool isNative = native && native->text == target.text;
  CpuDescription cpu = assumeCpu(target);
  if (isNative) {
    auto identified = identifyCpu();
    if (!identified)
      return identified.takeError();
    cpu = *identified;
  }
  return std::make_unique<TunedLayouts>(std::nullopt, std::move(cpu), target,
                                        isNative ? availableThreads() : 1,
                                        getCompilerVersion());
}

Expected<std::unique_ptr<TunedLayouts>>
tercet::makePlanner(const CompileRequest &request, Progress &progress) {
  std::string path = request.database.empty() ? TuningDatabase::getDefaultPath()
                                              : request.database;
  bool isQuick = request.tune == "quick";
  if (request.tune == "off" || path.empty() || !canRun(request.target) ||
      (!isQuick && !sys::fs::exists(path)))
    return makeCostModel(request.target);

  auto database = isQuick ? TuningDatabase::openToWrite(path)
                          : TuningDatabase::openToRead(path);
  if (!database) {
    warn(progress, database.takeError());
    return makeCostModel(request.target);
  }
  auto cpu = isQuick ? Expected<std::optional<CpuDescription>>(
                           TunedLayouts::measureCpu(*database, request.target))
                     : findTunedCpu(*database, request.target);
  if (!cpu)
    warn(progress, cpu.takeError());
  else if (*cpu) {
    auto layouts = std::make_unique<TunedLayouts>(
        std::move(*database), std::move(**cpu), request.target,
        availableThreads(), getCompilerVersion());
    if (isQuick)
      layouts->tuneMissing(kQuickSeconds);
    showProgress(*layouts, progress);
    layouts->onDatabaseError = [&](Error error) {
      warn(progress, std::move(error));
    };
    return layouts;
  }
  return makeCostModel(request.target);
}
