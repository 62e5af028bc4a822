// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/ArtifactProgram.h"
#include "compiler/Reference/Npy.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet::reference;

namespace {
/// Removed at the end of the scope.
class TemporaryFile {
public:
  explicit TemporaryFile(StringRef suffix) {
    if (auto code = sys::fs::createTemporaryFile("tercet-verify", suffix, path))
      error = createFileError("temporary file", code);
    else
      remover.setFile(path);
  }
  SmallString<128> path;
  Error error = Error::success();

private:
  FileRemover remover;
};
} // namespace

static Expected<std::unique_ptr<MemoryBuffer>> readFile(StringRef path) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false,
                                      /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createFileError(path, buffer.getError());
  return std::move(*buffer);
}

static std::string joinTokens(ArrayRef<int32_t> tokens) {
  return join(map_range(tokens, [](int32_t t) { return std::to_string(t); }),
              ",");
}

/// Its standard output goes to the file `output`; what it has to say about an
/// error it says itself.
Error ArtifactProgram::execute(ArrayRef<StringRef> arguments,
                               StringRef output) const {
  SmallVector<StringRef> all = {path};
  append_range(all, arguments);
  std::optional<StringRef> redirects[] = {"", output, std::nullopt};
  std::string message;
  int status =
      sys::ExecuteAndWait(path, all, std::nullopt, redirects, 0, 0, &message);
  if (status == 0)
    return Error::success();
  return createStringError(
      path + ": " +
      (message.empty() ? "exit status " + std::to_string(status) : message));
}

Expected<json::Value>
ArtifactProgram::executeForJson(ArrayRef<StringRef> arguments) const {
  TemporaryFile file("json");
  if (file.error)
    return std::move(file.error);
  if (Error error = execute(arguments, file.path))
    return std::move(error);
  auto text = readFile(file.path);
  if (!text)
    return text.takeError();
  return json::parse((*text)->getBuffer());
}

Expected<double> ArtifactProgram::getPerplexity(StringRef file) const {
  auto value = executeForJson({"--perplexity", file, "--json"});
  if (!value)
    return value.takeError();
  if (const json::Object *object = value->getAsObject())
    if (auto perplexity = object->getNumber("perplexity"))
      return *perplexity;
  return createStringError(path + ": printed no perplexity");
}

Expected<ArtifactProgram::Info> ArtifactProgram::getInfo() const {
  auto value = executeForJson({"--info"});
  if (!value)
    return value.takeError();
  if (const json::Object *object = value->getAsObject()) {
    auto arenaSize = object->getInteger("arena_bytes");
    auto maxStepTokens = object->getInteger("max_step_tokens");
    if (arenaSize && maxStepTokens)
      return Info{*arenaSize, *maxStepTokens};
  }
  return createStringError(path + ": was made by another version of tercet: "
                                  "compile it again");
}

Expected<Floats> ArtifactProgram::getLogits(ArrayRef<int32_t> tokens) const {
  TemporaryFile file("npy");
  if (file.error)
    return std::move(file.error);
  if (Error error =
          execute({"--tokens", joinTokens(tokens), "--logits", file.path}))
    return std::move(error);
  return readNpy<float>(file.path);
}

Expected<std::unique_ptr<MemoryBuffer>>
ArtifactProgram::trace(ArrayRef<int32_t> tokens,
                       ArrayRef<tercet_trace_range> ranges,
                       uint64_t numCalls) const {
  TemporaryFile file("trace");
  if (file.error)
    return std::move(file.error);
  StringRef question(reinterpret_cast<const char *>(ranges.data()),
                     ranges.size() * sizeof(tercet_trace_range));
  if (Error error = writeToOutput(file.path, [&](raw_ostream &out) {
        out << question;
        return Error::success();
      }))
    return std::move(error);
  if (Error error =
          execute({"--tokens", joinTokens(tokens), "--trace", file.path}))
    return std::move(error);
  auto buffer = readFile(file.path);
  if (!buffer)
    return buffer.takeError();

  size_t size = 0;
  for (const tercet_trace_range &range : ranges)
    size += range.size;
  StringRef answer = (*buffer)->getBuffer().drop_front(question.size());
  if (answer.size() < sizeof(uint64_t) ||
      support::endian::read64le(answer.take_back(sizeof(uint64_t)).data()) !=
          numCalls ||
      answer.size() != size + sizeof(uint64_t))
    return createStringError(path + ": its step has other kernels than this "
                                    "version of tercet makes of the model: "
                                    "compile it again");
  return MemoryBuffer::getMemBufferCopy(answer.take_front(size));
}
