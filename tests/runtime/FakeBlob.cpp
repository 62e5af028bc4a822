// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/runtime/FakeBlob.h"
#include "runtime/src/Artifact.h"

#include <cstring>
#include <vector>

using namespace tercet;
using namespace tercet::test;

void test::rehashHeader(std::string &blob) {
  auto *header = reinterpret_cast<tercet_blob_header *>(blob.data());
  header->header_hash = 0;
  header->header_hash =
      hashBytes(blob.data(),
                sizeof *header + header->num_sections * sizeof(tercet_section));
}

std::string test::makeFakeSignature() {
  // "": offset 0 of the strings, and so on.
  std::string strings("\0batch\0x\0y\0fail\0sum\0rows\0", 25);
  constexpr uint32_t Start =
      sizeof(tercet_signature) + 5 * sizeof(tercet_signature_tensor);
  auto at = [&](const char *text) {
    return Start + static_cast<uint32_t>(
                       strings.find(std::string(text, strlen(text) + 1)));
  };
  int64_t batch = -1 - int64_t(at("batch"));
  tercet_signature head = {3, 2};
  tercet_signature_tensor tensors[] = {
      {at("x"), TERCET_ELEMENT_F32, 2, 0, {batch, 3}},
      {at("y"), TERCET_ELEMENT_F32, 1, 0, {batch}},
      {at("fail"), TERCET_ELEMENT_BOOL, 0, 0, {}},
      {at("sum"), TERCET_ELEMENT_F32, 2, 0, {batch, 3}},
      {at("rows"), TERCET_ELEMENT_I64, 0, 0, {}},
  };
  return std::string(reinterpret_cast<char *>(&head), sizeof head) +
         std::string(reinterpret_cast<char *>(tensors), sizeof tensors) +
         strings;
}

std::string test::makeFakeBlob(const FakeBlobOptions &options) {
  tercet_generation generation{};
  generation.bos_token = 256;
  generation.num_eos = 1;
  generation.eos_tokens[0] = FakeEos;
  generation.top_p = 1;
  struct Section {
    tercet_section_kind kind;
    std::string bytes;
  };
  // The weights come last, as the compiler writes them.
  std::vector<Section> sections = {
      {TERCET_SECTION_GENERATION,
       std::string(reinterpret_cast<char *>(&generation), sizeof generation)},
      {TERCET_SECTION_INFO, "{\"model\": \"fake\"}"},
      {TERCET_SECTION_KERNELS, "linear 300x1\tfake.<head>\n"},
  };
  if (!options.tokenizer.empty())
    sections.push_back({TERCET_SECTION_TOKENIZER, options.tokenizer});
  if (!options.signature.empty())
    sections.push_back({TERCET_SECTION_SIGNATURE, options.signature});
  if (!options.chatTemplate.empty())
    sections.push_back({TERCET_SECTION_CHAT_TEMPLATE, options.chatTemplate});
  std::string weights(options.weightsSize, 0);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<char>(i * 7);
  sections.push_back({TERCET_SECTION_WEIGHTS, weights});

  tercet_blob_header header{};
  header.magic = TERCET_BLOB_MAGIC;
  header.version = TERCET_BLOB_VERSION;
  header.num_sections = sections.size();
  strcpy(header.target, "fake");
  header.cpu_features = options.cpuFeatures;
  header.kind = options.signature.empty() ? TERCET_ARTIFACT_LANGUAGE_MODEL
                                          : TERCET_ARTIFACT_GRAPH;
  header.vocab_size = FakeVocab;
  header.context = FakeContext;
  header.max_step_tokens = 16;
  header.num_layers = 1;
  header.arena_size = 4096;
  header.scratch_size = 256;
  header.kv_slot_size = FakeSlotTokens * sizeof(int32_t);
  header.ternary_weights = 4 * options.weightsSize;
  header.ternary_bytes = options.weightsSize;
  header.size = options.weightsOffset + options.weightsSize;

  std::string table, body;
  uint64_t bodyStart =
      (sizeof header + sections.size() * sizeof(tercet_section) + 63) & ~63ull;
  for (const Section &section : sections) {
    bool isWeights = section.kind == TERCET_SECTION_WEIGHTS;
    tercet_section entry{};
    entry.kind = section.kind;
    entry.offset = isWeights ? options.weightsOffset : bodyStart + body.size();
    entry.size = section.bytes.size();
    entry.hash = hashBytes(section.bytes.data(), section.bytes.size());
    table.append(reinterpret_cast<char *>(&entry), sizeof entry);
    if (!isWeights)
      body += section.bytes + std::string(-section.bytes.size() & 63, 0);
  }
  std::string blob(reinterpret_cast<char *>(&header), sizeof header);
  blob += table;
  blob.resize(bodyStart);
  blob += body;
  blob.resize(options.weightsOffset);
  blob += weights;
  rehashHeader(blob);
  return blob;
}
