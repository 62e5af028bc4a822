// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a model's files say of how to continue a text, checked.

#ifndef TERCET_FRONTENDS_TOKENIZER_GENERATION_H
#define TERCET_FRONTENDS_TOKENIZER_GENERATION_H

#include "tercet/artifact.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace tercet {

/// What transformers assumes where a file with some of these lacks the others.
struct Sampling {
  double temperature = 1, topP = 1;
  int64_t topK = 50;
};

/// Makes the error for a field, by what is wrong with it.
using Complaint = llvm::function_ref<llvm::Error(llvm::StringRef message)>;

/// Greedy, from no token, to no end.
tercet_generation makeGeneration();

/// The fields' complaints are in the order of Sampling.
llvm::Error setSampling(tercet_generation &generation, const Sampling &sampling,
                        Complaint temperature, Complaint topP, Complaint topK);

/// Adds a token that ends a text, unless it is known.
llvm::Error addEndToken(tercet_generation &generation, int32_t token,
                        Complaint complain);

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_GENERATION_H
