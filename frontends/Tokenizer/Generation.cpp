// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/Generation.h"
#include "runtime/src/TokenizerBlob.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

using namespace tercet;

tercet_generation tercet::makeGeneration() {
  tercet_generation generation = {};
  generation.bos_token = noToken;
  generation.top_p = 1;
  return generation;
}

llvm::Error tercet::setSampling(tercet_generation &generation,
                                const Sampling &sampling, Complaint temperature,
                                Complaint topP, Complaint topK) {
  if (!(sampling.temperature >= 0))
    return temperature("is negative");
  if (!(sampling.topP > 0 && sampling.topP <= 1))
    return topP("is not in (0, 1]");
  if (sampling.topK < 0 || sampling.topK > INT32_MAX)
    return topK("is not a count");
  generation.temperature = static_cast<float>(sampling.temperature);
  generation.top_p = static_cast<float>(sampling.topP);
  generation.top_k = static_cast<int32_t>(sampling.topK);
  return llvm::Error::success();
}

llvm::Error tercet::addEndToken(tercet_generation &generation, int32_t token,
                                Complaint complain) {
  llvm::ArrayRef<int32_t> known(generation.eos_tokens, generation.num_eos);
  if (llvm::is_contained(known, token))
    return llvm::Error::success();
  if (generation.num_eos == TERCET_MAX_EOS)
    return complain("is one end token more than the supported " +
                    std::to_string(TERCET_MAX_EOS));
  generation.eos_tokens[generation.num_eos++] = token;
  return llvm::Error::success();
}
