// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/CpuFeatures.h"
#include "tercet/artifact.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__riscv)
#include <csetjmp>
#include <csignal>
#endif

using namespace tercet;

#if defined(__x86_64__)

namespace {
/// Register state that the operating system must save for a feature (XCR0).
enum class State { Sse, Avx, Avx512, Tiles };

struct CpuidBit {
  tercet_cpu_feature feature;
  unsigned leaf, subleaf;
  enum { Ebx, Ecx, Eax, Edx } word;
  unsigned bit;
  State state;
};
} // namespace

static constexpr CpuidBit CpuidBits[] = {
    {TERCET_CPU_SSSE3, 1, 0, CpuidBit::Ecx, 9, State::Sse},
    {TERCET_CPU_SSE41, 1, 0, CpuidBit::Ecx, 19, State::Sse},
    {TERCET_CPU_SSE42, 1, 0, CpuidBit::Ecx, 20, State::Sse},
    {TERCET_CPU_AVX, 1, 0, CpuidBit::Ecx, 28, State::Avx},
    {TERCET_CPU_F16C, 1, 0, CpuidBit::Ecx, 29, State::Avx},
    {TERCET_CPU_FMA, 1, 0, CpuidBit::Ecx, 12, State::Avx},
    {TERCET_CPU_AVX2, 7, 0, CpuidBit::Ebx, 5, State::Avx},
    {TERCET_CPU_BMI2, 7, 0, CpuidBit::Ebx, 8, State::Sse},
    {TERCET_CPU_AVXVNNI, 7, 1, CpuidBit::Eax, 4, State::Avx},
    {TERCET_CPU_AVX512F, 7, 0, CpuidBit::Ebx, 16, State::Avx512},
    {TERCET_CPU_AVX512BW, 7, 0, CpuidBit::Ebx, 30, State::Avx512},
    {TERCET_CPU_AVX512DQ, 7, 0, CpuidBit::Ebx, 17, State::Avx512},
    {TERCET_CPU_AVX512VL, 7, 0, CpuidBit::Ebx, 31, State::Avx512},
    {TERCET_CPU_AVX512VNNI, 7, 0, CpuidBit::Ecx, 11, State::Avx512},
    {TERCET_CPU_AVX512VBMI, 7, 0, CpuidBit::Ecx, 1, State::Avx512},
    {TERCET_CPU_AMXINT8, 7, 0, CpuidBit::Edx, 25, State::Tiles},
};

/// The kernel saves tiles only for processes that have asked for it. Threads
/// have what the process has.
static bool requestTiles() {
#ifdef __linux__
  constexpr int RequestPermission = 0x1023, TileData = 18;
  return syscall(SYS_arch_prctl, RequestPermission, TileData) == 0;
#else
  return false;
#endif
}

static State savedState() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned Osxsave = 1u << 27;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & Osxsave))
    return State::Sse;
  __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  if ((eax & 0x600e6) == 0x600e6 && requestTiles())
    return State::Tiles;
  if ((eax & 0xe6) == 0xe6)
    return State::Avx512;
  return (eax & 0x6) == 0x6 ? State::Avx : State::Sse;
}

uint64_t tercet::hostCpuFeatures() {
  State saved = savedState();
  uint64_t features = 0;
  for (const CpuidBit &entry : CpuidBits) {
    unsigned eax, ebx, ecx, edx;
    if (entry.state > saved ||
        !__get_cpuid_count(entry.leaf, entry.subleaf, &eax, &ebx, &ecx, &edx))
      continue;
    unsigned words[] = {ebx, ecx, eax, edx};
    if (words[entry.word] >> entry.bit & 1)
      features |= entry.feature;
  }
  return features;
}

std::string tercet::hostCpuName() {
  char name[49] = {};
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    unsigned words[4];
    if (!__get_cpuid(0x80000002 + leaf, &words[0], &words[1], &words[2],
                     &words[3]))
      return "x86-64";
    memcpy(name + 16 * leaf, words, 16);
  }
  std::string trimmed = name;
  trimmed.erase(0, trimmed.find_first_not_of(' '));
  trimmed.erase(trimmed.find_last_not_of(' ') + 1);
  return trimmed;
}

#elif defined(__aarch64__)

uint64_t tercet::hostCpuFeatures() {
  constexpr unsigned long Asimddp = 1ul << 20, I8mm = 1ul << 13;
  uint64_t features = 0;
  if (getauxval(AT_HWCAP) & Asimddp)
    features |= TERCET_CPU_NEON_DOTPROD;
  if (getauxval(AT_HWCAP2) & I8mm)
    features |= TERCET_CPU_NEON_I8MM;
  return features;
}

std::string tercet::hostCpuName() { return "aarch64"; }

#elif defined(__riscv)

static sigjmp_buf afterTrap;
static void onIllegalInstruction(int) { siglongjmp(afterTrap, 1); }

/// Bytes of a vector register, 0 without vector unit or with a draft of it:
/// none of the drafts knows this vtype. An instruction is tried, because
/// kernels before 6.5 and many emulators say nothing of the unit.
static unsigned long vectorBytes() {
  struct sigaction trap = {}, saved;
  trap.sa_handler = onIllegalInstruction;
  sigaction(SIGILL, &trap, &saved);
  volatile unsigned long bytes = 0;
  if (sigsetjmp(afterTrap, /*savemask=*/1) == 0) {
    unsigned long length;
    __asm__ volatile(".option push; .option arch, +v\n"
                     "vsetvli %0, zero, e8, m1, ta, ma\n"
                     ".option pop"
                     : "=r"(length)
                     :
                     : "vl", "vtype");
    bytes = length;
  }
  sigaction(SIGILL, &saved, nullptr);
  return bytes;
}

uint64_t tercet::hostCpuFeatures() {
  return vectorBytes() >= 16 ? TERCET_CPU_RVV : 0;
}

std::string tercet::hostCpuName() { return "riscv64"; }

#else

uint64_t tercet::hostCpuFeatures() { return 0; }
std::string tercet::hostCpuName() { return "unknown"; }

#endif

std::string tercet::describeCpuFeatures(uint64_t features) {
  static constexpr const char *Names[] = {
      "ssse3",    "sse4.1",   "sse4.2",   "avx",        "f16c",
      "fma",      "avx2",     "bmi2",     "avxvnni",    "avx512f",
      "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512vbmi",
      "dotprod",  "i8mm",     "amxint8",  "v"};
  std::string text;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if (!(features >> bit & 1))
      continue;
    text += text.empty() ? "" : " ";
    text +=
        bit < std::size(Names) ? Names[bit] : "feature " + std::to_string(bit);
  }
  return text.empty() ? "none" : text;
}
