// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Console.h"

#include <csignal>
#include <unistd.h>

using namespace tercet;

/// The weights are a mapped file: a disk error, or somebody cutting the file
/// short while it runs, arrives as a signal.
static void onBusError(int) {
  static const char Message[] =
      "error: the model's file could not be read (damaged, shortened while "
      "running, or a disk error): copy or compile it again\n";
  (void)!write(STDERR_FILENO, Message, sizeof Message - 1);
  _exit(1);
}

void tercet::reportBusErrors() { signal(SIGBUS, onBusError); }

static volatile sig_atomic_t interruptSeen = 0;

static void onInterrupt(int) {
  if (interruptSeen)
    _exit(128 + SIGINT);
  interruptSeen = 1;
}

void tercet::catchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = onInterrupt; // No SA_RESTART: a waiting read must return.
  sigaction(SIGINT, &action, nullptr);
}

bool tercet::interrupted() { return interruptSeen; }
void tercet::clearInterrupt() { interruptSeen = 0; }
