// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/ParseTarget.h"
#include "tercet/artifact.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include <memory>
#include <mutex>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace llvm;
using namespace tercet;

namespace {

struct Level {
  StringRef name;
  Triple::ArchType arch;
  StringRef triple;
  StringRef cpu;
  /// Features that the level's name implies but LLVM's CPU does not.
  StringRef features;
  StringRef description;
};

// Oldest first within an architecture: the last level that a CPU has wins.
constexpr Level kLevels[] = {
    {"x86-64", Triple::x86_64, "x86_64-unknown-linux-gnu", "x86-64", "",
     "SSE2: any 64-bit x86"},
    {"x86-64-v2", Triple::x86_64, "x86_64-unknown-linux-gnu", "x86-64-v2", "",
     "SSSE3, SSE4.2: 2009 and later"},
    {"x86-64-v3", Triple::x86_64, "x86_64-unknown-linux-gnu", "x86-64-v3", "",
     "AVX2, FMA, BMI2: 2013 and later"},
    {"x86-64-v4", Triple::x86_64, "x86_64-unknown-linux-gnu", "x86-64-v4", "",
     "AVX-512 F, BW, DQ, VL; neither VNNI nor VBMI"},
    {"aarch64", Triple::aarch64, "aarch64-unknown-linux-gnu", "generic", "",
     "NEON: any 64-bit ARM"},
    {"riscv64", Triple::riscv64, "riscv64-unknown-linux-gnu", "generic-rv64",
     "+m,+a,+f,+d,+c", "RV64GC"},
    {"wasm32", Triple::wasm32, "wasm32-unknown-wasi", "generic", "",
     "WebAssembly"},
};

struct Feature {
  StringRef name; // in --target
  StringRef llvmName;
  Triple::ArchType arch;
  uint64_t bit; // of tercet_cpu_feature; 0: not checked at start
};

constexpr Feature kFeatures[] = {
    {"ssse3", "ssse3", Triple::x86_64, TERCET_CPU_SSSE3},
    {"sse4.1", "sse4.1", Triple::x86_64, TERCET_CPU_SSE41},
    {"sse4.2", "sse4.2", Triple::x86_64, TERCET_CPU_SSE42},
    {"avx", "avx", Triple::x86_64, TERCET_CPU_AVX},
    {"f16c", "f16c", Triple::x86_64, TERCET_CPU_F16C},
    {"fma", "fma", Triple::x86_64, TERCET_CPU_FMA},
    {"avx2", "avx2", Triple::x86_64, TERCET_CPU_AVX2},
    {"bmi2", "bmi2", Triple::x86_64, TERCET_CPU_BMI2},
    {"avxvnni", "avxvnni", Triple::x86_64, TERCET_CPU_AVXVNNI},
    {"avx512f", "avx512f", Triple::x86_64, TERCET_CPU_AVX512F},
    {"avx512bw", "avx512bw", Triple::x86_64, TERCET_CPU_AVX512BW},
    {"avx512dq", "avx512dq", Triple::x86_64, TERCET_CPU_AVX512DQ},
    {"avx512vl", "avx512vl", Triple::x86_64, TERCET_CPU_AVX512VL},
    {"avx512vnni", "avx512vnni", Triple::x86_64, TERCET_CPU_AVX512VNNI},
    {"avx512vbmi", "avx512vbmi", Triple::x86_64, TERCET_CPU_AVX512VBMI},
    {"amxint8", "amx-int8", Triple::x86_64, TERCET_CPU_AMXINT8},
    {"dotprod", "dotprod", Triple::aarch64, TERCET_CPU_NEON_DOTPROD},
    {"i8mm", "i8mm", Triple::aarch64, TERCET_CPU_NEON_I8MM},
    {"v", "v", Triple::riscv64, TERCET_CPU_RVV},
    {"simd128", "simd128", Triple::wasm32, 0},
    {"relaxed-simd", "relaxed-simd", Triple::wasm32, 0},
};

/// The candidate with the smallest edit distance, the last of equals (levels
/// are in ascending order). If none is near, one that `text` begins, or "".
StringRef nearest(StringRef text, ArrayRef<StringRef> candidates) {
  StringRef best;
  unsigned bestDistance = text.size() / 3;
  for (StringRef candidate : candidates) {
    unsigned distance =
        text.edit_distance(candidate, /*AllowReplacements=*/true, bestDistance);
    if (distance <= bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best.empty() && text.size() >= 3)
    for (StringRef candidate : candidates)
      if (candidate.starts_with(text))
        return candidate;
  return best;
}

Error unknown(const Twine &what, StringRef name,
              ArrayRef<StringRef> candidates) {
  StringRef near = nearest(name, candidates);
  return createStringError(
      what + " '" + name + "'" +
      (near.empty() ? Twine() : ", nearest is '" + near + "'") +
      "; `tercet targets` lists what there is");
}

std::unique_ptr<MCSubtargetInfo>
createSubtarget(StringRef triple, StringRef cpu, StringRef features) {
  registerLLVMTargets();
  std::string error;
  const Target *target = TargetRegistry::lookupTarget(Triple(triple), error);
  return std::unique_ptr<MCSubtargetInfo>(
      target->createMCSubtargetInfo(Triple(triple), cpu, features));
}

/// The checked features of a CPU, those implied by others included.
uint64_t checkedFeatures(Triple::ArchType arch,
                         const MCSubtargetInfo &subtarget) {
  uint64_t bits = 0;
  for (const Feature &feature : kFeatures)
    if (feature.arch == arch && feature.bit &&
        subtarget.checkFeatures(("+" + feature.llvmName).str()))
      bits |= feature.bit;
  return bits;
}

uint64_t checkedFeatures(const Level &level) {
  return checkedFeatures(
      level.arch, *createSubtarget(level.triple, level.cpu, level.features));
}

/// The newest level that `bits` covers.
const Level &newestLevel(Triple::ArchType arch, uint64_t bits) {
  const Level *newest = nullptr;
  for (const Level &level : kLevels)
    if (level.arch == arch &&
        (!newest || (checkedFeatures(level) & ~bits) == 0))
      newest = &level;
  return *newest;
}

const Level *findLevel(StringRef name) {
  return find_if(kLevels, [&](const Level &l) { return l.name == name; });
}

/// The oldest level of an architecture.
const Level *findArchitecture(Triple::ArchType arch) {
  return find_if(kLevels, [&](const Level &l) { return l.arch == arch; });
}

void addFeature(TargetSpec &spec, const Feature &feature) {
  spec.text += ("+" + feature.name).str();
  spec.llvmFeatures.push_back(("+" + feature.llvmName).str());
}

TargetSpec specOfLevel(const Level &level) {
  TargetSpec spec;
  spec.text = level.name;
  spec.triple = level.triple;
  spec.cpu = spec.tuneCpu = level.cpu;
  SmallVector<StringRef> features;
  level.features.split(features, ',', -1, /*KeepEmpty=*/false);
  spec.llvmFeatures.assign(features.begin(), features.end());
  return spec;
}

/// The newest level within `bits` plus the features above it.
TargetSpec specOfFeatures(Triple::ArchType arch, uint64_t bits,
                          StringRef tuneCpu) {
  const Level &level = newestLevel(arch, bits);
  TargetSpec spec = specOfLevel(level);
  uint64_t extra = bits & ~checkedFeatures(level);
  for (const Feature &feature : kFeatures)
    if (feature.bit & extra)
      addFeature(spec, feature);
  spec.tuneCpu = tuneCpu;
  return spec;
}

/// Linux saves the tiles of AMX for processes that have asked for it: this one
/// has then, as far as code is run in it.
bool requestTiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Expected<TargetSpec> parseNative() {
  Triple host(sys::getProcessTriple());
  StringMap<bool> has = sys::getHostCPUFeatures();
  uint64_t bits = 0;
  for (const Feature &feature : kFeatures)
    if (feature.arch == host.getArch() && has.lookup(feature.llvmName))
      bits |= feature.bit;
  if (bits & TERCET_CPU_AMXINT8 && !requestTiles())
    bits &= ~uint64_t(TERCET_CPU_AMXINT8);
  if (findArchitecture(host.getArch()) == std::end(kLevels))
    return createStringError("no backend for this machine (" + host.str() +
                             "); name a target with --target");
  return specOfFeatures(host.getArch(), bits, sys::getHostCPUName());
}

/// A CPU that LLVM knows by name, on the first architecture that has it.
std::optional<TargetSpec> parseCpu(StringRef name) {
  if (name.starts_with("generic"))
    return std::nullopt;
  for (const Level &level : kLevels) {
    if (&level != findArchitecture(level.arch))
      continue;
    auto subtarget = createSubtarget(level.triple, "", "");
    if (!subtarget->isCPUStringValid(name))
      continue;
    subtarget = createSubtarget(level.triple, name, "");
    TargetSpec spec = specOfFeatures(
        level.arch, checkedFeatures(level.arch, *subtarget), name);
    spec.text = name;
    return spec;
  }
  return std::nullopt;
}

std::optional<TargetSpec> parseTriple(StringRef text) {
  Triple triple(Triple::normalize(text));
  if (!text.contains('-') || triple.getOS() == Triple::UnknownOS)
    return std::nullopt;
  const Level *level = findArchitecture(triple.getArch());
  if (level == std::end(kLevels))
    return std::nullopt;
  TargetSpec spec = specOfLevel(*level);
  if (triple.str() != spec.triple)
    spec.text = spec.triple = triple.str();
  return spec;
}

Expected<TargetSpec> parseBase(StringRef name) {
  if (name == "native")
    return parseNative();
  if (const Level *level = findLevel(name); level != std::end(kLevels))
    return specOfLevel(*level);
  if (auto spec = parseTriple(name))
    return *spec;
  if (auto spec = parseCpu(name))
    return *spec;

  SmallVector<StringRef> candidates = {"native"};
  for (const Level &level : kLevels)
    candidates.push_back(level.name);
  for (const Level &level : kLevels)
    if (&level == findArchitecture(level.arch))
      for (const SubtargetSubTypeKV &cpu :
           createSubtarget(level.triple, "", "")->getAllProcessorDescriptions())
        candidates.push_back(cpu.Key);
  return unknown("unknown target", name, candidates);
}

SmallVector<StringRef> featureNames(Triple::ArchType arch) {
  SmallVector<StringRef> names;
  for (const Feature &feature : kFeatures)
    if (feature.arch == arch)
      names.push_back(feature.name);
  return names;
}

} // namespace

void tercet::registerLLVMTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
#define TERCET_REGISTER(NAME)                                                  \
  LLVMInitialize##NAME##TargetInfo();                                          \
  LLVMInitialize##NAME##Target();                                              \
  LLVMInitialize##NAME##TargetMC();                                            \
  LLVMInitialize##NAME##AsmParser();                                           \
  LLVMInitialize##NAME##AsmPrinter();
    TERCET_REGISTER(X86)
    TERCET_REGISTER(AArch64)
    TERCET_REGISTER(RISCV)
    TERCET_REGISTER(WebAssembly)
#undef TERCET_REGISTER
  });
}

std::string TargetSpec::featureString() const {
  return join(llvmFeatures, ",");
}

Expected<TargetSpec> tercet::parseTarget(StringRef text) {
  if (text.contains(','))
    return createStringError(
        "'" + text + "': only `compile` and `run` take several targets");
  auto [base, rest] = text.split('+');
  Expected<TargetSpec> spec = parseBase(base);
  if (!spec)
    return spec.takeError();

  Triple::ArchType arch = Triple(spec->triple).getArch();
  SmallVector<StringRef> names;
  rest.split(names, '+', -1, /*KeepEmpty=*/false);
  for (StringRef name : names) {
    const Feature *feature = find_if(kFeatures, [&](const Feature &f) {
      return f.arch == arch && f.name == name;
    });
    if (feature == std::end(kFeatures))
      return unknown("target '" + base + "' has no feature", name,
                     featureNames(arch));
    if (!is_contained(spec->llvmFeatures, ("+" + feature->llvmName).str()))
      addFeature(*spec, *feature);
  }
  spec->cpuFeatures = checkedFeatures(
      arch, *createSubtarget(spec->triple, spec->cpu, spec->featureString()));
  // The schedule of LLVM's generic CPU is that of an in-order core of 2021.
  // Those without dotprod are older: its loads come too late for them, and its
  // unpacked codes early enough to find no registers.
  if (arch == Triple::aarch64 && spec->tuneCpu == "generic" &&
      !spec->has(TERCET_CPU_NEON_DOTPROD))
    spec->tuneCpu = "cortex-a55";
  return spec;
}

std::vector<TargetLevel> tercet::targetLevels() {
  std::vector<TargetLevel> levels;
  for (const Level &level : kLevels) {
    uint64_t implied = checkedFeatures(newestLevel(level.arch, ~uint64_t(0)));
    TargetLevel entry = {level.name, level.description, {}};
    for (const Feature &feature : kFeatures)
      if (feature.arch == level.arch && !(feature.bit & implied))
        entry.features.push_back(feature.name);
    levels.push_back(std::move(entry));
  }
  return levels;
}

bool tercet::isHostArchitecture(const TargetSpec &target) {
  return Triple(target.triple).getArch() ==
         Triple(sys::getProcessTriple()).getArch();
}

std::vector<StringRef> tercet::cpuFeatureNames(uint64_t cpuFeatures) {
  std::vector<StringRef> names;
  for (const Feature &feature : kFeatures)
    if (feature.bit & cpuFeatures)
      names.push_back(feature.name);
  return names;
}
