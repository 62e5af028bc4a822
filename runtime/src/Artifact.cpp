// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Artifact.h"
#include "runtime/src/CpuFeatures.h"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace tercet;

uint64_t tercet::hashBytes(const void *data, uint64_t size, uint64_t seed) {
  return XXH3_64bits_withSeed(data, size, seed);
}

static Error damaged(const std::string &what) {
  return Error("this artifact is damaged (" + what +
               "): copy or compile it again");
}

static Error truncated(uint64_t available, uint64_t size) {
  return damaged(format("truncated: %llu of %llu bytes of the model are there",
                        (unsigned long long)available,
                        (unsigned long long)size));
}

static uint64_t hashHeader(const tercet_blob_header &header,
                           const tercet_section *sections) {
  tercet_blob_header unhashed = header;
  unhashed.header_hash = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &unhashed, sizeof unhashed);
  XXH3_64bits_update(&state, sections,
                     header.num_sections * sizeof(tercet_section));
  return XXH3_64bits_digest(&state);
}

static uint64_t numKVRows(const tercet_blob_header &header) {
  return (uint64_t(header.context) + TERCET_KV_BLOCK - 1) / TERCET_KV_BLOCK;
}

/// Limits beyond the hash: what a compiler bug, not a bad disk, would break.
static Error checkShape(const tercet_blob_header &header) {
  if (!memchr(header.target, 0, sizeof header.target))
    return damaged("target name not terminated");
  if (header.kind == TERCET_ARTIFACT_GRAPH)
    return Error::success();
  constexpr uint32_t Limit = 1u << 30;
  if (header.vocab_size - 1 >= Limit || header.context - 1 >= Limit ||
      header.max_step_tokens - 1 >= Limit)
    return damaged("vocabulary, context or step size out of range");
  if (header.kv_slot_size % numKVRows(header))
    return damaged("KV cache not made of rows");
  return Error::success();
}

static Error checkGeneration(const tercet_generation &generation,
                             uint32_t vocabSize) {
  auto isToken = [=](int32_t id) {
    return id >= 0 && static_cast<uint32_t>(id) < vocabSize;
  };
  bool good = generation.num_eos >= 0 && generation.num_eos <= TERCET_MAX_EOS &&
              (generation.bos_token == -1 || isToken(generation.bos_token));
  for (int32_t i = 0; good && i < generation.num_eos; ++i)
    good = isToken(generation.eos_tokens[i]);
  return good ? Error::success() : damaged("generation defaults out of range");
}

Error Artifact::open(const void *blob, uint64_t available, Artifact &result) {
  const auto *header = static_cast<const tercet_blob_header *>(blob);
  if (available < sizeof *header)
    return truncated(available, sizeof *header);
  if (header->magic != TERCET_BLOB_MAGIC)
    return Error("this program carries no model: it was linked, but the model "
                 "was never appended");
  if (header->version != TERCET_BLOB_VERSION)
    return Error(format("this artifact has format %u and its runtime reads "
                        "format %u: compile it again",
                        header->version, TERCET_BLOB_VERSION));
  if (available < header->size)
    return truncated(available, header->size);
  uint64_t tableSize = header->num_sections * uint64_t(sizeof(tercet_section));
  if (header->size < sizeof *header + tableSize)
    return damaged("section table larger than the model");

  Artifact artifact;
  artifact.start = static_cast<const char *>(blob);
  artifact.head = header;
  artifact.sections = reinterpret_cast<const tercet_section *>(header + 1);
  if (hashHeader(*header, artifact.sections) != header->header_hash)
    return damaged("header hash differs");
  if (Error error = checkShape(*header))
    return error;

  for (uint32_t i = 0; i < header->num_sections; ++i) {
    const tercet_section &section = artifact.sections[i];
    if (section.offset > header->size ||
        section.size > header->size - section.offset)
      return damaged(format("section %u lies outside the file", section.kind));
    // Sections are read in place.
    if (section.offset % 64)
      return damaged(format("section %u is misaligned", section.kind));
    bool hashed = section.kind != TERCET_SECTION_WEIGHTS;
    if (hashed && hashBytes(artifact.start + section.offset, section.size) !=
                      section.hash)
      return damaged(format("hash of section %u differs", section.kind));
  }

  const tercet_section *weights = artifact.find(TERCET_SECTION_WEIGHTS);
  if (!weights)
    return damaged("no weights");

  for (const tercet_level &level : artifact.levels())
    if (!memchr(level.target, 0, sizeof level.target))
      return damaged("target name of a level not terminated");

  artifact.generationDefaults.bos_token = -1;
  artifact.generationDefaults.top_p = 1;
  if (const tercet_section *generation =
          artifact.find(TERCET_SECTION_GENERATION)) {
    if (generation->size != sizeof(tercet_generation))
      return damaged("generation defaults of the wrong size");
    memcpy(&artifact.generationDefaults, artifact.start + generation->offset,
           sizeof(tercet_generation));
    if (Error error =
            checkGeneration(artifact.generationDefaults, header->vocab_size))
      return error;
  }
  result = artifact;
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Queries
//===----------------------------------------------------------------------===//

const tercet_section *Artifact::find(tercet_section_kind kind) const {
  for (uint32_t i = 0; i < head->num_sections; ++i)
    if (sections[i].kind == static_cast<uint32_t>(kind))
      return &sections[i];
  return nullptr;
}

std::string_view Artifact::section(tercet_section_kind kind) const {
  const tercet_section *section = find(kind);
  return section ? std::string_view(start + section->offset, section->size)
                 : std::string_view();
}

uint64_t Artifact::kvRowSize() const {
  return head->kv_slot_size / numKVRows(*head);
}

Error Artifact::checkWeights() const {
  if (hashBytes(weights().data(), weights().size()) !=
      find(TERCET_SECTION_WEIGHTS)->hash)
    return damaged("hash of the weights differs");
  return Error::success();
}

Error Artifact::checkCpu(uint64_t cpuFeatures) const {
  uint64_t missing = head->cpu_features & ~cpuFeatures;
  if (!missing)
    return Error::success();
  return Error("this binary (--target=" +
               (levels().empty() ? head->target : joinLevels(",")) +
               ") needs " + describeCpuFeatures(missing) + "; this CPU has " +
               describeCpuFeatures(cpuFeatures) +
               ": compile it with --target=native here");
}

uint32_t tercet_active_level = 0;

std::span<const tercet_level> Artifact::levels() const {
  std::string_view bytes = section(TERCET_SECTION_LEVELS);
  return {reinterpret_cast<const tercet_level *>(bytes.data()),
          bytes.size() / sizeof(tercet_level)};
}

std::string Artifact::joinLevels(const char *separator) const {
  std::string text;
  for (const tercet_level &level : levels())
    text += (text.empty() ? "" : separator) + std::string(level.target);
  return text;
}

Error Artifact::selectLevel(uint64_t cpuFeatures, const char *forced) const {
  if (Error error = checkCpu(cpuFeatures))
    return error;
  auto all = levels();
  if (all.empty())
    return Error::success();
  bool found = false;
  for (const tercet_level &level : all) {
    uint64_t missing = level.cpu_features & ~cpuFeatures;
    if (forced && strcmp(forced, level.target))
      continue;
    if (forced && missing)
      return Error("TERCET_TARGET=" + std::string(forced) + " needs " +
                   describeCpuFeatures(missing) + "; this CPU has " +
                   describeCpuFeatures(cpuFeatures));
    if (missing)
      continue;
    tercet_active_level = static_cast<uint32_t>(&level - all.data());
    found = true;
  }
  if (forced && !found)
    return Error("TERCET_TARGET=" + std::string(forced) + ": this binary has " +
                 joinLevels(", "));
  if (!found)
    return Error(
        "this CPU has " + describeCpuFeatures(cpuFeatures) +
        ", and none of the levels of this binary: " + joinLevels(", "));
  return Error::success();
}

const char *Artifact::target() const {
  return levels().empty() ? head->target : levels()[tercet_active_level].target;
}

std::string Artifact::info() const {
  std::string text(section(TERCET_SECTION_INFO));
  if (!levels().empty() && text.ends_with("\n}")) {
    text.resize(text.size() - 2);
    text += ",\n  \"active_target\": \"" + std::string(target()) + "\"\n}";
  }
  return text + '\n';
}
