// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/tools/CommandLine.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Option/Option.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet;

namespace {

#define OPTTABLE_STR_TABLE_CODE
#include "compiler/tools/Options.inc"
#undef OPTTABLE_STR_TABLE_CODE

#define OPTTABLE_PREFIXES_TABLE_CODE
#include "compiler/tools/Options.inc"
#undef OPTTABLE_PREFIXES_TABLE_CODE

using llvm::opt::DefaultVis;
using llvm::opt::HelpHidden;

constexpr opt::OptTable::Info kOptions[] = {
#define OPTION(...) LLVM_CONSTRUCT_OPT_INFO(__VA_ARGS__),
#include "compiler/tools/Options.inc"
#undef OPTION
};

struct OptionTable : opt::GenericOptTable {
  OptionTable()
      : GenericOptTable(OptionStrTable, OptionPrefixesTable, kOptions) {}
};

const OptionTable &table() {
  static const OptionTable instance;
  return instance;
}

Error unknownOption(const Command &command, StringRef name) {
  std::string nearest;
  unsigned distance = table().findNearest(
      name, nearest, opt::Visibility(command.visibility), /*MinimumLength=*/2);
  return createStringError(
      "unknown option '" + name + "' for " + command.name +
      (distance <= 1 + name.size() / 3
           ? ", did you mean '" + nearest + "'?"
           : "; see `tercet " + command.name.str() + " --help`"));
}

/// Checks a value against the alternatives of its option, if it has any.
Error checkChoice(const opt::Arg &arg) {
  const char *values = table().getOptionMetaVar(arg.getOption().getID());
  if (!values || !StringRef(values).contains('|'))
    return Error::success();
  SmallVector<StringRef> choices;
  StringRef(values).split(choices, '|');
  if (is_contained(choices, arg.getValue()))
    return Error::success();
  return createStringError(arg.getSpelling() + arg.getValue() +
                           ": the value is one of " + join(choices, ", ") +
                           suggest(arg.getValue(), choices));
}

} // namespace

std::string tercet::suggest(StringRef text, ArrayRef<StringRef> candidates) {
  StringRef nearest;
  unsigned limit = 1 + text.size() / 3;
  for (StringRef candidate : candidates) {
    unsigned distance = text.edit_distance(candidate, true, limit);
    if (distance < limit) {
      nearest = candidate;
      limit = distance;
    }
  }
  return nearest.empty() ? "" : (", did you mean '" + nearest + "'?").str();
}

Expected<Arguments> Arguments::parse(const Command &command,
                                     ArrayRef<const char *> argv) {
  Arguments result(argv);
  opt::Visibility visible(command.visibility);
  for (unsigned index = 0; index < argv.size();) {
    if (command.passesRest && result.inputs.size() == command.maxPositionals) {
      result.passed.assign(argv.begin() + index, argv.end());
      break;
    }
    unsigned start = index;
    std::unique_ptr<opt::Arg> arg =
        table().ParseOneArg(result.values, index, visible);
    if (!arg)
      return createStringError(StringRef(argv[start]) + " needs a value");
    const opt::Option &option = arg->getOption();
    if (option.getKind() == opt::Option::InputClass) {
      result.inputs.push_back(argv[start]);
      continue;
    }
    if (option.getKind() == opt::Option::UnknownClass)
      return unknownOption(command, StringRef(argv[start]).split('=').first);
    if (option.getKind() == opt::Option::JoinedClass && !*arg->getValue())
      return createStringError(StringRef(argv[start]) + " needs a value");
    if (Error error = checkChoice(*arg))
      return error;
    result.values.append(arg.release());
  }
  if (result.has(OPT_help))
    return result;
  if (result.inputs.size() < command.minPositionals)
    return createStringError("missing argument; usage: tercet " + command.name +
                             " " + command.usage);
  if (result.inputs.size() > command.maxPositionals)
    return createStringError("unexpected argument '" +
                             StringRef(result.inputs[command.maxPositionals]) +
                             "'; usage: tercet " + command.name + " " +
                             command.usage);
  return result;
}

Expected<int64_t> Arguments::getNumber(OptionID option,
                                       int64_t fallback) const {
  const opt::Arg *arg = values.getLastArg(option);
  if (!arg)
    return fallback;
  int64_t value;
  if (StringRef(arg->getValue()).getAsInteger(10, value) || value <= 0)
    return createStringError(arg->getSpelling() + arg->getValue() +
                             ": the value is a whole number above 0");
  return value;
}

void tercet::printHelp(const Command &command) {
  std::string usage = formatv("tercet {0} {1}", command.name, command.usage);
  table().printHelp(outs(), usage.c_str(), command.summary.str().c_str(),
                    /*ShowHidden=*/false, /*ShowAllAliases=*/false,
                    opt::Visibility(command.visibility));
  outs() << "\nEXAMPLES:\n" << command.examples;
}

void tercet::printHelp(ArrayRef<Command> commands) {
  outs() << "OVERVIEW: compiles ternary language models into self-contained "
            "executables\n\nUSAGE: tercet COMMAND ...\n\nCOMMANDS:\n";
  for (const Command &command : commands)
    outs() << formatv("  {0,-9}{1}\n", command.name, command.summary);
  outs() << "\n`tercet COMMAND --help` shows its options and examples.\n"
            "\nEXAMPLES:\n"
            "  tercet compile models/bitnet-2b -o bitnet\n"
            "  ./bitnet -p \"The capital of France is\" -n 20\n";
}
