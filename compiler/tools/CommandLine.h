// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The command line of `tercet`: a subcommand, the options of Options.td that
// it takes, and positional arguments.

#ifndef TERCET_COMPILER_TOOLS_COMMANDLINE_H
#define TERCET_COMPILER_TOOLS_COMMANDLINE_H

#include "llvm/Option/ArgList.h"
#include "llvm/Option/OptTable.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace tercet {

/// Which subcommands take an option; the names are those of Options.td.
enum CommandVisibility : unsigned {
  CompileVis = 1u << 1,
  InspectVis = 1u << 2,
  VerifyVis = 1u << 3,
  RunVis = 1u << 4,
  BenchVis = 1u << 5,
  TargetsVis = 1u << 6,
  TuneVis = 1u << 7,
};

enum OptionID {
  OPT_INVALID = 0,
#define OPTION(...) LLVM_MAKE_OPT_ID(__VA_ARGS__),
#include "compiler/tools/Options.inc"
#undef OPTION
};

class Arguments;

struct Command {
  llvm::StringRef name;
  unsigned visibility;
  llvm::StringRef summary;
  /// Positional arguments, as shown by --help.
  llvm::StringRef usage;
  llvm::StringRef examples;
  unsigned minPositionals, maxPositionals;
  /// What follows the positionals belongs to another program.
  bool passesRest;
  llvm::Error (*run)(const Arguments &);
};

/// What the user gave to a subcommand.
class Arguments {
public:
  /// Errors are one line that names the argument and the nearest known one.
  static llvm::Expected<Arguments> parse(const Command &command,
                                         llvm::ArrayRef<const char *> argv);

  bool has(OptionID option) const { return values.hasArg(option); }
  /// The last value given, or `fallback`.
  llvm::StringRef get(OptionID option, llvm::StringRef fallback = "") const {
    return values.getLastArgValue(option, fallback);
  }
  /// A value above 0, or `fallback` if the option is not given.
  llvm::Expected<int64_t> getNumber(OptionID option, int64_t fallback) const;

  llvm::ArrayRef<const char *> positionals() const { return inputs; }
  /// What follows the positionals, if the command passes it on.
  llvm::ArrayRef<const char *> rest() const { return passed; }

private:
  explicit Arguments(llvm::ArrayRef<const char *> argv)
      : values(argv.begin(), argv.end()) {}

  llvm::opt::InputArgList values;
  std::vector<const char *> inputs, passed;
};

void printHelp(const Command &command);
/// Help of `tercet` itself.
void printHelp(llvm::ArrayRef<Command> commands);

/// The candidate nearest to `text`, as ", did you mean 'X'?", or "".
std::string suggest(llvm::StringRef text,
                    llvm::ArrayRef<llvm::StringRef> candidates);

} // namespace tercet

#endif // TERCET_COMPILER_TOOLS_COMMANDLINE_H
