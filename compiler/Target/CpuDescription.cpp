// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/CpuDescription.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace llvm;

namespace tercet {

std::string CpuDescription::getIdentity() const {
  std::string text = formatv("{0} {1}/{2}/{3} {4} {5} CPUs", vendor, family,
                             model, stepping, target, numCpus);
  for (const MemoryLevel &level : ArrayRef(levels).drop_back())
    text +=
        formatv(" {0}={1}/{2}", level.name, level.sizeInBytes, level.numCpus);
  return text;
}

int CpuDescription::getBandwidthClass() const {
  double rate = levels.back().readByAll;
  return rate > 0 ? int(std::lround(std::log2(rate))) : 0;
}

/// One core of many: caches of the last ten years, and its share of memory.
/// Between what a core of a desktop gets while all of them read (about 10 GB/s)
/// and what one of a server gets alone (30).
CpuDescription assumeCpu(const TargetSpec &target) {
  CpuDescription cpu;
  cpu.isAssumed = true;
  cpu.target = target.text;
  cpu.levels = {{"L2", 512 << 10, 1, 60e9, 60e9},
                {"L3", 32 << 20, 1, 40e9, 40e9},
                {"memory", INT64_MAX, 1, 20e9, 20e9}};
  return cpu;
}

static json::Value toJSON(const MemoryLevel &level) {
  return json::Object{{"name", level.name},
                      {"size_in_bytes", level.sizeInBytes},
                      {"cpus", level.numCpus},
                      {"read_by_one", level.readByOne},
                      {"read_by_all", level.readByAll}};
}

static bool fromJSON(const json::Value &value, MemoryLevel &level,
                     json::Path path) {
  json::ObjectMapper map(value, path);
  return map && map.map("name", level.name) &&
         map.map("size_in_bytes", level.sizeInBytes) &&
         map.map("cpus", level.numCpus) &&
         map.map("read_by_one", level.readByOne) &&
         map.map("read_by_all", level.readByAll);
}

static json::Value toJSON(const MatmulRates &rates) {
  return json::Object{{"gemv", rates.gemv}, {"gemm", rates.gemm}};
}

static bool fromJSON(const json::Value &value, MatmulRates &rates,
                     json::Path path) {
  json::ObjectMapper map(value, path);
  return map && map.map("gemv", rates.gemv) && map.map("gemm", rates.gemm);
}

static json::Value toJSON(const TargetRates &rates) {
  json::Object packings;
  for (const auto &[packing, ofPacking] : rates.packings)
    packings[stringifyPacking(packing)] = toJSON(ofPacking);
  return json::Object{{"dot_peak", rates.dotPeak},
                      {"packings", std::move(packings)}};
}

static bool fromJSON(const json::Value &value, TargetRates &rates,
                     json::Path path) {
  json::ObjectMapper map(value, path);
  std::map<std::string, MatmulRates> packings;
  if (!map || !map.map("dot_peak", rates.dotPeak) ||
      !map.map("packings", packings))
    return false;
  for (const auto &[name, ofPacking] : packings) {
    auto packing = ternary::symbolizePacking(name);
    if (!packing) {
      path.field("packings").report("unknown packing");
      return false;
    }
    rates.packings[*packing] = ofPacking;
  }
  return true;
}

json::Value toJSON(const CpuDescription &cpu) {
  json::Array levels;
  for (const MemoryLevel &level : cpu.levels)
    levels.push_back(toJSON(level));
  json::Object rates;
  for (const auto &[target, ofTarget] : cpu.rates)
    rates[target] = toJSON(ofTarget);
  return json::Object{{"vendor", cpu.vendor},
                      {"family", cpu.family},
                      {"model", cpu.model},
                      {"stepping", cpu.stepping},
                      {"target", cpu.target},
                      {"cpus", cpu.numCpus},
                      {"levels", std::move(levels)},
                      {"rates", std::move(rates)},
                      {"date", cpu.date}};
}

bool fromJSON(const json::Value &value, CpuDescription &cpu, json::Path path) {
  json::ObjectMapper map(value, path);
  if (!map || !map.map("vendor", cpu.vendor) ||
      !map.map("family", cpu.family) || !map.map("model", cpu.model) ||
      !map.map("stepping", cpu.stepping) || !map.map("target", cpu.target) ||
      !map.map("cpus", cpu.numCpus) || !map.map("levels", cpu.levels) ||
      !map.map("rates", cpu.rates) || !map.map("date", cpu.date))
    return false;
  if (cpu.levels.empty()) {
    path.field("levels").report("expected at least memory");
    return false;
  }
  return true;
}

} // namespace tercet
