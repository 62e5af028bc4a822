// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// For LD_PRELOAD: a program with emulated AVX-VNNI, which says at its end how
// many instructions were.

#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include <cstdio>
#include <cstdlib>

using namespace tercet;

__attribute__((constructor)) static void begin() {
  if (!avxvnni::installEmulator())
    abort();
}

__attribute__((destructor)) static void end() {
  fprintf(stderr, "emulated %llu dot products%s\n",
          static_cast<unsigned long long>(avxvnni::countEmulated()),
          avxvnni::executesAVXVNNI() ? ", this CPU executes them" : "");
}
