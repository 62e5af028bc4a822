// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// There are no signals: Ctrl-C ends the engine, and a file that cannot be read
// is an error where it is read.

#include "runtime/src/Console.h"

void tercet::reportBusErrors() {}
void tercet::catchInterrupts() {}
bool tercet::interrupted() { return false; }
void tercet::clearInterrupt() {}
