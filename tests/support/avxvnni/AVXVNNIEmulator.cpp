// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include <atomic>

using namespace tercet;

static std::atomic<uint64_t> numEmulated;

uint64_t avxvnni::countEmulated() { return numEmulated; }

#if defined(__x86_64__)

#include <cpuid.h>
#include <csignal>
#include <cstring>
#include <ucontext.h>

//===----------------------------------------------------------------------===//
// Registers of the interrupted thread
//===----------------------------------------------------------------------===//

/// Where XSAVE stores the bits of zmm0 to zmm15 from 256 on; 0 without AVX-512.
static unsigned zmmOffset = 0;

namespace {
struct Vector {
  uint8_t bytes[32] = {};
};

/// The signal frame holds what XSAVE writes: FXSAVE's area with the xmm
/// registers, a header, and the components of newer registers. A component
/// whose header bit is clear counts as zero whatever its bytes say.
class Registers {
public:
  explicit Registers(ucontext_t &context)
      : context(context),
        area(reinterpret_cast<uint8_t *>(context.uc_mcontext.fpregs)) {
    if (isSaved()) {
      materialize(kSse, kXmm);
      materialize(kAvx, kYmm);
    }
  }

  /// Whether the frame holds more than FXSAVE's area.
  bool isSaved() const {
    constexpr unsigned kMagicOffset = 464, kMagic = 0x46505853;
    return area && load<uint32_t>(kMagicOffset) == kMagic;
  }

  /// General registers by their number in instructions.
  greg_t &general(unsigned number) {
    static constexpr int kOrder[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return context.uc_mcontext.gregs[kOrder[number]];
  }
  const uint8_t *next() const {
    return reinterpret_cast<const uint8_t *>(
        context.uc_mcontext.gregs[REG_RIP]);
  }
  void setNext(const uint8_t *instruction) {
    context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(instruction);
  }

  Vector vector(unsigned number) const {
    Vector value;
    memcpy(value.bytes, area + kXmm + 16 * number, 16);
    memcpy(value.bytes + 16, area + kYmm + 16 * number, 16);
    return value;
  }
  /// As an instruction with VEX prefix does: zeros above.
  void setVector(unsigned number, const Vector &value) {
    memcpy(area + kXmm + 16 * number, value.bytes, 16);
    memcpy(area + kYmm + 16 * number, value.bytes + 16, 16);
    if (zmmOffset && load<uint64_t>(kHeader) & kAvx512)
      memset(area + zmmOffset + 32 * number, 0, 32);
  }

private:
  static constexpr unsigned kXmm = 160, kHeader = 512, kYmm = 576;
  static constexpr uint64_t kSse = 1 << 1, kAvx = 1 << 2, kAvx512 = 1 << 6;

  template <typename T> T load(unsigned offset) const {
    T value;
    memcpy(&value, area + offset, sizeof value);
    return value;
  }
  void materialize(uint64_t component, unsigned offset) {
    auto present = load<uint64_t>(kHeader);
    if (present & component)
      return;
    memset(area + offset, 0, 16 * 16);
    present |= component;
    memcpy(area + kHeader, &present, sizeof present);
  }

  ucontext_t &context;
  uint8_t *area;
};
} // namespace

//===----------------------------------------------------------------------===//
// cpuid
//===----------------------------------------------------------------------===//

static bool emulateCpuid(Registers &registers) {
  enum { Rax, Rcx, Rdx, Rbx };
  const uint8_t *code = registers.next();
  if (code[0] != 0x06 || code[1] != 0xa2)
    return false;
  auto leaf = static_cast<uint32_t>(registers.general(Rax));
  auto subleaf = static_cast<uint32_t>(registers.general(Rcx));
  uint32_t eax, ebx, ecx, edx;
  __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
  if (leaf == 7 && subleaf == 0 && eax < 1)
    eax = 1; // The last subleaf.
  if (leaf == 7 && subleaf == 1)
    eax |= 1 << 4;
  registers.general(Rax) = eax;
  registers.general(Rbx) = ebx;
  registers.general(Rcx) = ecx;
  registers.general(Rdx) = edx;
  registers.setNext(code + 2);
  return true;
}

//===----------------------------------------------------------------------===//
// vpdpbusd, vpdpwssd
//===----------------------------------------------------------------------===//

namespace {
struct Cursor {
  const uint8_t *at;

  template <typename T> T take() {
    T value;
    memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
  }
};

/// ModRM with the bits that the prefix adds to its registers.
struct ModRM {
  unsigned mode, reg, rm, indexHigh, baseHigh;

  bool isRegister() const { return mode == 3; }
};
} // namespace

/// The address that ModRM, SIB and displacement denote. Nothing follows
/// them, so that the end of the displacement is the next instruction.
static const uint8_t *takeAddress(Cursor &code, const ModRM &modrm,
                                  Registers &registers) {
  constexpr unsigned kSib = 4, kNoBase = 5, kNoIndex = 4;
  uint64_t address = 0;
  bool hasBase = true;
  if (modrm.rm == kSib) {
    auto sib = code.take<uint8_t>();
    unsigned base = sib & 7, index = (sib >> 3 & 7) | modrm.indexHigh;
    if (index != kNoIndex)
      address = static_cast<uint64_t>(registers.general(index)) << (sib >> 6);
    hasBase = base != kNoBase || modrm.mode != 0;
    if (hasBase)
      address += registers.general(base | modrm.baseHigh);
  } else if (modrm.rm == kNoBase && modrm.mode == 0) {
    auto displacement = code.take<int32_t>();
    return code.at + displacement;
  } else {
    address = registers.general(modrm.rm | modrm.baseHigh);
  }
  if (modrm.mode == 1)
    address += code.take<int8_t>();
  else if (modrm.mode == 2 || !hasBase)
    address += code.take<int32_t>();
  return reinterpret_cast<const uint8_t *>(address);
}

/// sums[i] += a[i] * b[i] in groups that fill the 32 bits of a sum, which
/// wraps.
template <typename A, typename B>
static void addDots(Vector &sums, const Vector &as, const Vector &bs) {
  for (unsigned i = 0; i < sizeof sums.bytes; i += 4) {
    uint32_t sum;
    memcpy(&sum, sums.bytes + i, 4);
    for (unsigned j = i; j < i + 4; j += sizeof(A)) {
      A a;
      B b;
      memcpy(&a, as.bytes + j, sizeof a);
      memcpy(&b, bs.bytes + j, sizeof b);
      sum += static_cast<int32_t>(a) * static_cast<int32_t>(b);
    }
    memcpy(sums.bytes + i, &sum, 4);
  }
}

/// VEX.66.0F38.W0 50 /r and 52 /r: the prefix holds, inverted, the high bits of
/// the registers and the number of the second one.
static bool emulateDot(Registers &registers) {
  Cursor code = {registers.next()};
  if (code.take<uint8_t>() != 0xc4)
    return false;
  auto first = code.take<uint8_t>(), second = code.take<uint8_t>();
  auto opcode = code.take<uint8_t>();
  constexpr unsigned k0F38 = 2, kW = 0x80, k66 = 1;
  constexpr unsigned kBytes = 0x50, kWords = 0x52;
  if ((first & 0x1f) != k0F38 || second & kW || (second & 3) != k66 ||
      (opcode != kBytes && opcode != kWords) || !registers.isSaved())
    return false;
  bool isWide = second & 4;
  unsigned high = ~first;
  unsigned byte = code.take<uint8_t>();
  ModRM modrm = {byte >> 6, (byte >> 3 & 7) | (high >> 4 & 8), byte & 7,
                 high >> 3 & 8, high >> 2 & 8};

  unsigned numBytes = isWide ? 32 : 16;
  Vector values;
  if (modrm.isRegister())
    values = registers.vector(modrm.rm | modrm.baseHigh);
  else
    memcpy(values.bytes, takeAddress(code, modrm, registers), numBytes);
  Vector sums = registers.vector(modrm.reg);
  Vector codes = registers.vector(~second >> 3 & 15);
  if (opcode == kBytes)
    addDots<uint8_t, int8_t>(sums, codes, values);
  else
    addDots<int16_t, int16_t>(sums, codes, values);
  memset(sums.bytes + numBytes, 0, sizeof sums.bytes - numBytes);
  registers.setVector(modrm.reg, sums);
  registers.setNext(code.at);
  return true;
}

//===----------------------------------------------------------------------===//
// Signal
//===----------------------------------------------------------------------===//

static void onIllegalInstruction(int, siginfo_t *, void *context) {
  Registers registers(*static_cast<ucontext_t *>(context));
  unsigned numDots = 0;
  while (emulateDot(registers)) // And those that follow, for one signal.
    ++numDots;
  numEmulated.fetch_add(numDots, std::memory_order_relaxed);
  if (!numDots && !emulateCpuid(registers))
    signal(SIGILL, SIG_DFL); // The instruction runs again, and ends it all.
}

bool avxvnni::installEmulator() {
  if (!__builtin_cpu_supports("avx2"))
    return false;
  if (__builtin_cpu_supports("avx512f")) {
    unsigned eax, ecx, edx;
    __cpuid_count(0xd, 6, eax, zmmOffset, ecx, edx);
  }
  struct sigaction action = {};
  action.sa_sigaction = onIllegalInstruction;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

bool avxvnni::executesAVXVNNI() {
  static const bool executes = [] {
    uint64_t before = numEmulated;
    [] __attribute__((target("avxvnni"))) {
      __asm__ volatile("%{vex%} vpdpbusd %%xmm0, %%xmm0, %%xmm0" ::: "xmm0");
    }();
    uint64_t emulated = numEmulated - before;
    numEmulated -= emulated;
    return emulated == 0;
  }();
  return executes;
}

#else

bool avxvnni::installEmulator() { return false; }

bool avxvnni::executesAVXVNNI() { return false; }

#endif
