// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of operands, against the meaning of the instruction.

#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include "gtest/gtest.h"

#include <cstring>
#include <random>
#include <thread>

using namespace tercet;

/// For the form with an address relative to the instruction.
extern "C" {
__attribute__((used, visibility("hidden"))) int8_t avxvnniTestValues[32];
}

namespace {
/// What a form finds at %rdi.
struct Operands {
  int32_t sums[8];
  uint8_t codes[32];
  int8_t values[32];
  int32_t result[8];
};

struct Form {
  const char *name;
  unsigned numLanes;
  bool isOfWords;
  void (*run)(Operands *);
};
} // namespace

/// %rdi + 32 are the codes, + 64 the values, + 96 the result. `before` sets up
/// what `operand` reads.
#define FORM(op, size, sums, codes, before, operand, after)                    \
  Form {                                                                       \
    size "mm" #sums " += " size "mm" #codes " * " operand,                     \
        size[0] == 'x' ? 4u : 8u, op[3] == 'w',                                \
        [](Operands *operands) __attribute__((target("avxvnni"))) {            \
          __asm__ volatile("vmovdqu (%%rdi), %%ymm" #sums "\n"                 \
                           "vmovdqu 32(%%rdi), %%ymm" #codes "\n" before "\n"  \
                           "%{vex%} v" op " " operand ", %%" size "mm" #codes  \
                           ", %%" size "mm" #sums "\n" after "\n"              \
                           "vmovdqu %%ymm" #sums ", 96(%%rdi)\n"               \
                           :                                                   \
                           : "D"(operands)                                     \
                           : "memory", "rax", "rcx", "r9", "r10", "r12",       \
                             "r13", "xmm0", "xmm1", "xmm2", "xmm7", "xmm8",    \
                             "xmm9", "xmm13", "xmm15");                        \
        }                                                                      \
  }

#define FORMS(op, size)                                                        \
  FORM(op, size, 0, 1, "vmovdqu 64(%%rdi), %%ymm2", "%%" size "mm2", ""),      \
      FORM(op, size, 8, 1, "vmovdqu 64(%%rdi), %%ymm2", "%%" size "mm2", ""),  \
      FORM(op, size, 0, 9, "vmovdqu 64(%%rdi), %%ymm2", "%%" size "mm2", ""),  \
      FORM(op, size, 7, 15, "vmovdqu 64(%%rdi), %%ymm13", "%%" size "mm13",    \
           ""),                                                                \
      FORM(op, size, 0, 1, "lea 64(%%rdi), %%rax", "(%%rax)", ""),             \
      FORM(op, size, 0, 1, "lea 64(%%rdi), %%r9", "(%%r9)", ""),               \
      FORM(op, size, 0, 1, "lea 64(%%rdi), %%r12", "(%%r12)", ""),             \
      FORM(op, size, 8, 9, "lea 64(%%rdi), %%r13", "(%%r13)", ""),             \
      FORM(op, size, 0, 1, "", "64(%%rdi)", ""),                               \
      FORM(op, size, 0, 1, "lea 100(%%rdi), %%r10", "-36(%%r10)", ""),         \
      FORM(op, size, 0, 1, "lea -4032(%%rdi), %%rax", "4096(%%rax)", ""),      \
      FORM(op, size, 0, 1, "mov $8, %%rcx", "(%%rdi,%%rcx,8)", ""),            \
      FORM(op, size, 0, 1, "mov $-8, %%r10; lea 64(%%rdi), %%r9",              \
           "32(%%r9,%%r10,4)", ""),                                            \
      FORM(op, size, 0, 1, "mov $5000, %%r12", "-9936(%%rdi,%%r12,2)", ""),    \
      FORM(op, size, 0, 1, "mov $64, %%rcx; mov %%rdi, %%r13",                 \
           "(%%r13,%%rcx)", ""),                                               \
      FORM(op, size, 0, 1, "mov %%rdi, %%rax", "64(,%%rax,1)", ""),            \
      FORM(op, size, 0, 1,                                                     \
           "vmovdqu 64(%%rdi), %%ymm2; sub $256, %%rsp; "                      \
           "vmovdqu %%ymm2, 40(%%rsp)",                                        \
           "40(%%rsp)", "add $256, %%rsp"),                                    \
      FORM(op, size, 0, 1,                                                     \
           "vmovdqu 64(%%rdi), %%ymm2; "                                       \
           "vmovdqu %%ymm2, avxvnniTestValues(%%rip)",                         \
           "avxvnniTestValues(%%rip)", "")

static std::vector<Form> getForms() {
  return {FORMS("pdpbusd", "x"), FORMS("pdpbusd", "y"), FORMS("pdpwssd", "x"),
          FORMS("pdpwssd", "y")};
}

/// Extremes, and sums that wrap.
static Operands randomOperands(std::mt19937 &random) {
  Operands operands;
  for (int32_t &sum : operands.sums)
    sum = static_cast<int32_t>(random());
  for (uint8_t &code : operands.codes)
    code = random() % 4 ? random() : 255;
  for (int8_t &value : operands.values)
    value = random() % 4 ? random() : -128;
  return operands;
}

static int16_t word(const void *bytes, unsigned at) {
  int16_t value;
  memcpy(&value, static_cast<const char *>(bytes) + at, sizeof value);
  return value;
}

static int64_t dot(const Form &form, const Operands &operands, unsigned at) {
  int64_t sum = 0;
  for (unsigned i = at; i < at + 4; i += form.isOfWords ? 2 : 1)
    sum += form.isOfWords
               ? word(operands.codes, i) * int64_t(word(operands.values, i))
               : operands.codes[i] * operands.values[i];
  return sum;
}

static void expectDots(const Form &form, const Operands &operands) {
  for (unsigned lane = 0; lane < 8; ++lane) {
    int64_t sum = operands.sums[lane] + dot(form, operands, 4 * lane);
    ASSERT_EQ(operands.result[lane],
              lane < form.numLanes ? static_cast<int32_t>(sum) : 0)
        << form.name << ", lane " << lane;
  }
}

namespace {
class AVXVNNIEmulatorTest : public testing::Test {
protected:
  void SetUp() override {
    if (!avxvnni::installEmulator())
      GTEST_SKIP() << "this CPU lacks AVX2";
    if (avxvnni::executesAVXVNNI())
      GTEST_SKIP() << "this CPU has AVX-VNNI: nothing is emulated";
  }
};
} // namespace

TEST_F(AVXVNNIEmulatorTest, EveryForm) {
  std::mt19937 random(1);
  for (const Form &form : getForms())
    for (int i = 0; i < 20; ++i) {
      Operands operands = randomOperands(random);
      uint64_t before = avxvnni::countEmulated();
      form.run(&operands);
      expectDots(form, operands);
      ASSERT_EQ(avxvnni::countEmulated(), before + 1) << form.name;
    }
}

TEST_F(AVXVNNIEmulatorTest, OtherThreads) {
  std::thread([] {
    std::mt19937 random(2);
    Operands operands = randomOperands(random);
    Form form = getForms().front();
    form.run(&operands);
    expectDots(form, operands);
  }).join();
}

/// Like an instruction with VEX prefix, and unlike one of SSE.
TEST_F(AVXVNNIEmulatorTest, ClearsTheUpperBits) {
  if (!__builtin_cpu_supports("avx512f"))
    GTEST_SKIP() << "this CPU lacks AVX-512: there is nothing above";
  uint64_t words[8];
  [&words]() __attribute__((target("avx512f,avxvnni"))) {
    __asm__ volatile("vpternlogd $255, %%zmm0, %%zmm0, %%zmm0\n"
                     "vpxor %%xmm1, %%xmm1, %%xmm1\n"
                     "%{vex%} vpdpbusd %%ymm1, %%ymm1, %%ymm0\n"
                     "vmovdqu64 %%zmm0, (%0)\n"
                     :
                     : "r"(words)
                     : "memory", "xmm0", "xmm1");
  }();
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(words[i], i < 4 ? ~0ull : 0);
}

TEST_F(AVXVNNIEmulatorTest, ReportsItself) {
  unsigned eax = 7, ebx, ecx = 1, edx;
  __asm__ volatile(".byte 0x06, 0xa2"
                   : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  EXPECT_TRUE(eax >> 4 & 1);
}

TEST_F(AVXVNNIEmulatorTest, OtherIllegalInstructionsStillEndTheProgram) {
  EXPECT_EXIT(__builtin_trap(), testing::KilledBySignal(SIGILL), "");
}
