// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/Link.h"
#include "compiler/Emit/EmitObject.h"
#include "compiler/Emit/OutputFile.h"
#include "lld/Common/Driver.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

LLD_HAS_DRIVER(elf)
LLD_HAS_DRIVER(wasm)

using namespace llvm;
using namespace tercet;

namespace {

/// The placeholder is the last thing in memory, so that it can grow to any size
/// without moving anything; its start stays within reach of the code.
/// glibc's __libc_freeres_ptrs would otherwise come after it.
constexpr StringLiteral kPlaceholderScript =
    "SECTIONS {\n"
    "  __libc_freeres_ptrs : { *(__libc_freeres_ptrs) }\n"
    "  .tercet : { KEEP(*(.tercet)) }\n"
    "} INSERT AFTER .bss;\n";

/// Everything but the public C API stays private to the library: what
/// artifact.h declares is named tercet_* as well, but hidden.
constexpr StringLiteral kExportScript = "{ global: tercet_*; local: *; };\n";

struct Platform {
  Triple::ArchType arch;
  StringRef multiarch; // Debian's name of the architecture
  StringRef emulation; // lld's -m
  StringRef package;   // that holds crt1.o and libc.a

  bool isWasm() const { return arch == Triple::wasm32; }
};

constexpr Platform kPlatforms[] = {
    {Triple::x86_64, "x86_64-linux-gnu", "elf_x86_64",
     "libc6-dev and libstdc++-12-dev"},
    {Triple::aarch64, "aarch64-linux-gnu", "aarch64linux",
     "libstdc++-12-dev-arm64-cross"},
    {Triple::riscv64, "riscv64-linux-gnu", "elf64lriscv",
     "libstdc++-12-dev-riscv64-cross"},
    {Triple::wasm32, "wasm32-wasi", "",
     "libc++-22-dev-wasm32 and libclang-rt-22-dev-wasm32"},
};

/// Where Debian has clang's support functions for WebAssembly.
constexpr StringLiteral kWasmCompilerRuntime =
    "/usr/lib/llvm-22/lib/clang/22/lib/wasi";

bool isHost(const Platform &platform) {
  return platform.arch == Triple(sys::getProcessTriple()).getArch();
}

/// Null if nothing can be linked for the target.
const Platform *findPlatform(const TargetSpec &target) {
  Triple triple(target.triple);
  const Platform *platform = find_if(kPlatforms, [&](const Platform &p) {
    return p.arch == triple.getArch() &&
           (triple.isWasm() ? triple.isOSWASI()
                            : triple.isOSLinux() && !triple.isAndroid());
  });
  return platform == std::end(kPlatforms) ? nullptr : platform;
}

/// Where the C library and the compiler's support files of a platform are.
class Sysroot {
public:
  explicit Sysroot(const Platform &platform) : platform(platform) {
    std::string name = platform.multiarch.str();
    if (platform.isWasm()) {
      directories = {"/usr/lib/" + name, kWasmCompilerRuntime.str()};
      return;
    }
    if (isHost(platform)) {
      directories = {"/usr/lib/" + name, "/lib/" + name, "/usr/lib64",
                     "/usr/lib"};
      addNewestGcc("/usr/lib/gcc");
    }
    directories.push_back("/usr/" + name + "/lib");
    addNewestGcc("/usr/lib/gcc-cross");
  }

  Expected<std::string> find(StringRef file) const {
    for (const std::string &directory : directories) {
      SmallString<128> path(directory);
      sys::path::append(path, file);
      if (sys::fs::exists(path))
        return path.str().str();
    }
    return createStringError("cannot link for " + platform.multiarch + ": " +
                             file + " not found; install " +
                             packageOf(file).str());
  }

private:
  StringRef packageOf(StringRef file) const {
    return file.starts_with("libpcre2") ? StringRef("libpcre2-dev")
                                        : platform.package;
  }

  /// Adds DIRECTORY/ARCH-*/VERSION with the highest version.
  void addNewestGcc(StringRef directory) {
    std::string newest;
    unsigned newestVersion = 0;
    std::error_code code;
    for (sys::fs::directory_iterator arch(directory, code), end;
         !code && arch != end; arch.increment(code)) {
      StringRef name = sys::path::filename(arch->path());
      if (!name.starts_with(platform.multiarch.split('-').first) ||
          !name.contains("linux"))
        continue;
      std::error_code inner;
      for (sys::fs::directory_iterator it(arch->path(), inner);
           !inner && it != end; it.increment(inner)) {
        unsigned version;
        if (!sys::path::filename(it->path())
                 .split('.')
                 .first.getAsInteger(10, version) &&
            version > newestVersion) {
          newestVersion = version;
          newest = it->path();
        }
      }
    }
    if (!newest.empty())
      directories.push_back(newest);
  }

  const Platform &platform;
  std::vector<std::string> directories;
};

/// Collects arguments; paths are looked up in the sysroot. The first failure
/// is kept.
class ArgumentList {
public:
  explicit ArgumentList(const Sysroot &sysroot) : sysroot(sysroot) {}

  void add(std::initializer_list<StringRef> values) {
    for (StringRef value : values)
      arguments.push_back(value.str());
  }
  void addFiles(std::initializer_list<StringRef> files) {
    for (StringRef file : files)
      addFile(file);
  }
  void addFile(StringRef file) {
    Expected<std::string> path = sysroot.find(file);
    if (path)
      arguments.push_back(*path);
    else if (failure.empty())
      failure = toString(path.takeError());
    else
      consumeError(path.takeError());
  }

  Error takeError() {
    return failure.empty() ? Error::success() : createStringError(failure);
  }
  std::vector<const char *> pointers() const {
    std::vector<const char *> result;
    for (const std::string &argument : arguments)
      result.push_back(argument.c_str());
    return result;
  }

private:
  const Sysroot &sysroot;
  std::vector<std::string> arguments;
  std::string failure;
};

/// What lld makes of the arguments. It maps a regular output file, and touching
/// a mapping that a full disk cannot back is a signal; a pipe it writes in
/// order.
Expected<std::string> runLld(ArgumentList &arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return createStringError("cannot create a pipe: " +
                             StringRef(::strerror(errno)));
  arguments.add({"-o", "/proc/self/fd/" + std::to_string(ends[1])});
  std::string image;
  std::thread reader([&, from = ends[0]] {
    std::vector<char> buffer(1 << 16);
    ssize_t size;
    while ((size = ::read(from, buffer.data(), buffer.size())) != 0)
      if (size > 0)
        image.append(buffer.data(), size);
      else if (errno != EINTR)
        break;
  });

  std::string text;
  raw_string_ostream diagnostics(text);
  lld::Result result = lld::lldMain(
      arguments.pointers(), diagnostics, diagnostics,
      {{lld::Gnu, &lld::elf::link}, {lld::Wasm, &lld::wasm::link}});
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  if (result.retCode != 0)
    return createStringError("linking failed: " + StringRef(text).rtrim());
  return image;
}

/// A program that everybody may run whom the umask does not exclude.
Error writeProgram(StringRef path, StringRef image) {
  if (Error error = writeOutput(path, image))
    return error;
  auto permissions = sys::fs::perms(sys::fs::all_all & ~sys::fs::getUmask());
  if (std::error_code code = sys::fs::setPermissions(path, permissions))
    return createFileError(path, code);
  return Error::success();
}

/// A static executable or a shared library, with the placeholder of the blob.
Expected<std::string> linkElf(const LinkJob &job, const Platform &platform,
                              ArrayRef<ScratchFile> objects) {
  Expected<SmallString<0>> placeholder = emitBlobPlaceholder(job.target);
  if (!placeholder)
    return placeholder.takeError();
  auto placeholderFile = ScratchFile::create("o", *placeholder);
  if (!placeholderFile)
    return placeholderFile.takeError();
  auto script = ScratchFile::create("ld", kPlaceholderScript);
  if (!script)
    return script.takeError();
  auto exports = ScratchFile::create("ver", kExportScript);
  if (!exports)
    return exports.takeError();

  bool isShared = job.kind == LinkKind::SharedLibrary;
  Sysroot sysroot(platform);
  ArgumentList args(sysroot);
  args.add({"ld.lld", "-m", platform.emulation, "-T", script->path(),
            "--gc-sections", "--strip-debug", "--discard-locals",
            "--eh-frame-hdr", "--build-id=none", "-z", "relro", "-z",
            "noexecstack"});
  if (isShared) {
    args.add({"-shared", "--version-script", exports->path()});
    args.addFiles({"crti.o", "crtbeginS.o"});
  } else {
    args.add({"-static"});
    args.addFiles({"crt1.o", "crti.o", "crtbeginT.o"});
  }
  for (const ScratchFile &file : objects)
    args.add({file.path()});
  args.add({placeholderFile->path()});
  if (isShared)
    args.add({"--whole-archive"});
  for (StringRef archive : job.archives)
    args.add({archive});
  if (isShared)
    args.add({"--no-whole-archive"});
  args.add({"--start-group"});
  for (StringRef library : job.libraries)
    args.addFile(library);
  args.addFiles({"libstdc++.a", "libgcc.a", "libgcc_eh.a"});
  if (isShared)
    args.addFiles({"libm.so", "libc.so"});
  else
    args.addFiles({"libm.a", "libc.a"});
  args.add({"--end-group"});
  args.addFiles({isShared ? "crtendS.o" : "crtend.o", "crtn.o"});
  if (Error error = args.takeError())
    return std::move(error);
  return runLld(args);
}

/// A WASI command. Its stack is below its data, so that an overflow is a trap.
Expected<std::string> linkWasm(const LinkJob &job, const Platform &platform,
                               ArrayRef<ScratchFile> objects) {
  Sysroot sysroot(platform);
  ArgumentList args(sysroot);
  args.add({"wasm-ld", "--gc-sections", "--strip-debug", "--stack-first", "-z",
            "stack-size=1048576"});
  args.addFile("crt1-command.o");
  for (const ScratchFile &file : objects)
    args.add({file.path()});
  for (StringRef archive : job.archives)
    args.add({archive});
  args.addFiles({"libc++.a", "libc++abi.a", "libm.a", "libc.a",
                 "libwasi-emulated-getpid.a", "libclang_rt.builtins-wasm32.a"});
  if (Error error = args.takeError())
    return std::move(error);
  return runLld(args);
}

} // namespace

Error tercet::link(const LinkJob &job, StringRef output) {
  if (Error error = checkLinkable(job.kind, job.target))
    return error;
  const Platform *platform = findPlatform(job.target);
  std::vector<ScratchFile> objects;
  for (StringRef object : job.objects) {
    auto file = ScratchFile::create("o", object);
    if (!file)
      return file.takeError();
    objects.push_back(std::move(*file));
  }
  Expected<std::string> image = platform->isWasm()
                                    ? linkWasm(job, *platform, objects)
                                    : linkElf(job, *platform, objects);
  if (!image)
    return image.takeError();
  return writeProgram(output, *image);
}

Error tercet::checkLinkable(LinkKind kind, const TargetSpec &target) {
  const Platform *platform = findPlatform(target);
  if (!platform)
    return createStringError("cannot link for target '" + target.text +
                             "'; use --emit=obj, asm or llvm");
  if (platform->isWasm() && kind == LinkKind::SharedLibrary)
    return createStringError("WebAssembly has no shared libraries; use "
                             "--emit=exe, obj, asm or llvm");
  return Error::success();
}

Expected<std::string> tercet::findRuntimeArchive(StringRef name,
                                                 const TargetSpec &target) {
  static int anchor;
  std::string program = sys::fs::getMainExecutable(/*argv0=*/nullptr, &anchor);
  const Platform *platform = findPlatform(target);
  assert(platform && "see checkLinkable");
  SmallVector<std::string> candidates = {
      ("../lib/tercet/" + Triple::getArchTypeName(platform->arch)).str()};
  if (isHost(*platform))
    candidates.append({"../lib/tercet", "../lib"});
  for (StringRef directory : candidates) {
    SmallString<128> path(sys::path::parent_path(program));
    sys::path::append(path, directory, name);
    sys::path::remove_dots(path, /*remove_dot_dot=*/true);
    if (sys::fs::exists(path))
      return path.str().str();
  }
  return createStringError(
      "no runtime for target '" + target.text + "': " + name +
      " is not beside this compiler, which was built without " +
      platform->package);
}
