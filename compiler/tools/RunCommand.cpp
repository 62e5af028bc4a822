// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `tercet run` and `tercet bench`: start an executable, after compiling it
// into the cache if it is not there.

#include "compiler/tools/Commands.h"
#include "compiler/tools/CompileModel.h"
#include "compiler/tools/ModelFiles.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"
#include <cerrno>
#include <unistd.h>

using namespace llvm;
using namespace tercet;

Error tercet::execute(StringRef program, ArrayRef<const char *> arguments) {
  std::string path = program.str();
  std::vector<char *> argv = {path.data()};
  for (const char *argument : arguments)
    argv.push_back(const_cast<char *>(argument));
  argv.push_back(nullptr);
  outs().flush();
  ::execv(path.c_str(), argv.data());
  return createFileError(path, errnoAsErrorCode());
}

Error tercet::runBench(const Arguments &arguments) {
  std::vector<const char *> argv = {"--bench"};
  append_range(argv, arguments.rest());
  return execute(arguments.positionals()[0], argv);
}

/// What a cached executable depends on, as text.
static Expected<std::string> describeInputs(const CompileRequest &request) {
  static int anchor;
  std::string compiler = sys::fs::getMainExecutable(nullptr, &anchor);
  auto files = listModelFiles(request.model);
  if (!files)
    return files.takeError();
  sys::fs::file_status status;
  if (std::error_code code = sys::fs::status(compiler, status))
    return createFileError(compiler, code);
  files->push_back(
      {compiler, status.getSize(), status.getLastModificationTime()});

  std::string text =
      formatv("{0}\n{1} {2} packing={3} head={4} tune={5} db={6} "
              "context={7} kv={8}\n",
              TERCET_VERSION, request.target.text, request.target.tuneCpu,
              request.packing, request.head, request.tune, request.database,
              request.context, ternary::stringifyKVElement(request.kv));
  for (const ModelFile &file : *files)
    text += formatv("{0} {1} {2}\n", file.path, file.sizeInBytes,
                    file.modified.time_since_epoch().count());
  return text;
}

static Expected<std::string> getCachedPath(const CompileRequest &request) {
  Expected<std::string> inputs = describeInputs(request);
  if (!inputs)
    return inputs.takeError();
  SmallString<128> path;
  if (!sys::path::cache_directory(path))
    return createStringError(
        "no cache directory: neither XDG_CACHE_HOME nor HOME is set");
  sys::path::append(path, "tercet");
  if (std::error_code code = sys::fs::create_directories(path))
    return createFileError(path, code);
  sys::path::append(path, getModelName(request.model) + "-" +
                              utohexstr(xxh3_64bits(*inputs), true, 16));
  return path.str().str();
}

Error tercet::runRun(const Arguments &arguments) {
  auto request = CompileRequest::fromArguments(arguments);
  if (!request)
    return request.takeError();
  if (request->isGraph())
    return createStringError("run: an ONNX graph has files as inputs and "
                             "outputs: use tercet compile '" +
                             request->model + "' -o OUT, and OUT --help");
  Expected<std::string> path = getCachedPath(*request);
  if (!path)
    return path.takeError();
  if (!sys::fs::exists(*path)) {
    request->output = *path;
    if (Error error = compileModel(*request))
      return error;
  }
  return execute(*path, arguments.rest());
}
