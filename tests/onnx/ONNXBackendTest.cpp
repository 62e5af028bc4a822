// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs ONNX's backend test data in this process, through the whole compiler:
//
//   ONNXBackendTest [--data=DIR] [--unsupported=FILE] [--filter=REGEX] ...
//   ONNXBackendTest --mutate [--mutation=NAME] ...
//
// DIR holds SUITE/TEST/model.onnx and SUITE/TEST/test_data_set_*/. A test that
// stands in FILE ("SUITE/TEST: reason", sorted) has to fail; every other one
// has to pass. Tests run in child processes, and one that crashes fails, listed
// or not. With --mutate models are changed in one place after another, and have
// to be refused by messages of ours if at all.

#include "dialect/ONNX/ONNX.h"
#include "frontends/ONNX/ImportONNX.h"
#include "tests/onnx/Mutations.h"
#include "tests/onnx/TestTensor.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"

#include <atomic>
#include <csignal>
#include <map>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace llvm;
using namespace tercet;
using namespace tercet::test;

static cl::opt<std::string> dataDirectory("data", cl::desc("Test data"),
                                          cl::init(TERCET_ONNX_TEST_DATA));
static cl::opt<std::string>
    unsupportedFile("unsupported", cl::desc("Tests that have to fail"));
static cl::list<std::string> suites("suite", cl::CommaSeparated,
                                    cl::desc("Suites to run (default: all)"));
static cl::opt<std::string>
    filter("filter", cl::desc("Run tests that match this"), cl::init("."));
static cl::opt<bool> listTests("list", cl::desc("List tests, run none"));
static cl::opt<bool> printUnsupported(
    "print-unsupported",
    cl::desc("Print failing tests as a list of --unsupported"));
static cl::opt<bool> mutate("mutate", cl::desc("Lower wrong models, run none"));
static cl::opt<std::string>
    mutation("mutation", cl::desc("Print changes whose name has this, and what "
                                  "comes of them"));
static cl::opt<unsigned> jobs("jobs", cl::desc("Processes"), cl::init(2));
static cl::opt<unsigned> timeLimit("time-limit", cl::desc("Seconds of a test"),
                                   cl::init(60));
static cl::opt<std::string> target("target", cl::desc("As in tercet compile"),
                                   cl::init("native"));

//===----------------------------------------------------------------------===//
// One test
//===----------------------------------------------------------------------===//

/// The files of a directory, sorted by name, whose name begins with `prefix`.
static std::vector<std::string> listDirectory(const Twine &directory,
                                              StringRef prefix = "") {
  std::vector<std::string> paths;
  std::error_code code;
  for (sys::fs::directory_iterator it(directory, code), end; !code && it != end;
       it.increment(code))
    if (sys::path::filename(it->path()).starts_with(prefix))
      paths.push_back(it->path());
  // By length first: input_10 comes after input_9.
  llvm::sort(paths, [](const std::string &a, const std::string &b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  });
  return paths;
}

static Expected<std::vector<TestTensor>> readTensors(StringRef dataSet,
                                                     StringRef prefix) {
  std::vector<TestTensor> tensors;
  for (const std::string &path : listDirectory(dataSet, prefix)) {
    auto tensor = readTensor(path);
    if (!tensor)
      return tensor.takeError();
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

/// Test data made before ml_dtypes has bfloat16 as the uint16 of its bits.
static void restoreBFloat16(const GraphTensor &type, TestTensor &tensor) {
  if (type.element == TERCET_ELEMENT_BF16 &&
      tensor.element == TERCET_ELEMENT_UI16)
    tensor.element = TERCET_ELEMENT_BF16;
}

static Error runDataSet(GraphJIT &graph, StringRef dataSet) {
  auto inputs = readTensors(dataSet, "input_");
  if (!inputs)
    return inputs.takeError();
  auto expected = readTensors(dataSet, "output_");
  if (!expected)
    return expected.takeError();
  const GraphSignature &signature = graph.signature();
  if (inputs->size() != signature.inputs.size() ||
      expected->size() != signature.outputs.size())
    return createStringError("the graph has another number of inputs or "
                             "outputs than its test data");
  std::vector<HostTensor> arguments;
  for (auto [type, input] : zip_equal(signature.inputs, *inputs)) {
    restoreBFloat16(type, input);
    if (type.element != input.element)
      return createStringError("input " + type.name + " has another type");
    arguments.push_back(input.value);
  }
  auto computed = graph.run(arguments);
  if (!computed)
    return computed.takeError();
  for (auto [type, wanted, got] :
       zip_equal(signature.outputs, *expected, *computed)) {
    restoreBFloat16(type, wanted);
    if (Error error = compareTensors(wanted, {type.element, got}))
      return createStringError("output " + type.name + ": " +
                               toString(std::move(error)));
  }
  return Error::success();
}

static Error runTest(StringRef directory) {
  mlir::DialectRegistry registry;
  registerPipelineDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = importONNX(context, (directory + "/model.onnx").str());
  CompileOptions options;
  options.target = cantFail(parseTarget(target));
  if (mutate) {
    if (!module)
      return consumeError(module.takeError()), Error::success();
    options.compileTo = "lower-onnx";
    return runMutations(**module, options, mutation);
  }
  if (!module)
    return module.takeError();
  auto graph = GraphJIT::create(std::move(*module), options, /*numThreads=*/2);
  if (!graph)
    return graph.takeError();
  std::vector<std::string> dataSets = listDirectory(directory, "test_data_set");
  for (const std::string &dataSet : dataSets)
    if (Error error = runDataSet(*graph, dataSet))
      return error;
  return dataSets.empty() ? createStringError("no test data")
                          : Error::success();
}

//===----------------------------------------------------------------------===//
// All tests, in child processes
//===----------------------------------------------------------------------===//

namespace {

struct TestCase {
  std::string name; ///< SUITE/TEST
  enum { NotRun, Passed, Failed, Crashed } result = NotRun;
  std::string message;
};

/// Children take the next test from here, and write a line "INDEX MESSAGE" to a
/// pipe, with an empty message for a test that passed.
class Runner {
public:
  explicit Runner(std::vector<TestCase> &cases) : cases(cases) {
    shared = static_cast<std::atomic<unsigned> *>(
        mmap(nullptr, (1 + jobs) * sizeof(*shared), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }

  void run() {
    std::vector<Child> children(jobs);
    for (unsigned slot = 0; slot < jobs; ++slot)
      children[slot] = start(slot);
    while (any_of(children, [](const Child &c) { return c.pipe >= 0; }))
      for (unsigned slot = 0; slot < jobs; ++slot)
        if (children[slot].pipe >= 0 && !readResults(children[slot]))
          children[slot] = finish(children[slot], slot);
  }

private:
  struct Child {
    pid_t process = 0;
    int pipe = -1;
    std::string unread;
  };

  std::atomic<unsigned> &nextTest() { return shared[0]; }
  /// 1 + what the child runs now, or 0.
  std::atomic<unsigned> &currentTest(unsigned slot) { return shared[1 + slot]; }

  Child start(unsigned slot) {
    outs().flush();
    int ends[2];
    if (pipe(ends) != 0)
      report_fatal_error("no pipe");
    Child child;
    child.process = fork();
    child.pipe = ends[0];
    if (child.process == 0) {
      runTests(slot, ends[1]);
      _exit(0);
    }
    close(ends[1]);
    return child;
  }

  void runTests(unsigned slot, int results) {
    raw_fd_ostream out(results, /*shouldClose=*/true);
    for (unsigned i; (i = nextTest()++) < cases.size();) {
      currentTest(slot) = i + 1;
      alarm(timeLimit);
      std::string directory = dataDirectory + "/" + cases[i].name;
      std::string message = toString(runTest(directory));
      if (size_t at = message.find(directory); at != std::string::npos)
        message.erase(at, StringRef(directory + "/model.onnx: ").size());
      alarm(0);
      currentTest(slot) = 0;
      std::replace(message.begin(), message.end(), '\n', ' ');
      out << i << ' ' << message << '\n';
      out.flush();
    }
  }

  /// False at the end.
  bool readResults(Child &child) {
    pollfd event = {child.pipe, POLLIN, 0};
    if (poll(&event, 1, /*timeout=*/20) <= 0)
      return true;
    char buffer[4096];
    ssize_t size = read(child.pipe, buffer, sizeof buffer);
    if (size <= 0)
      return false;
    child.unread.append(buffer, size);
    size_t end;
    while ((end = child.unread.find('\n')) != std::string::npos) {
      auto [index, message] =
          StringRef(child.unread).take_front(end).split(' ');
      TestCase &test = cases[std::stoul(index.str())];
      test.result = message.empty() ? TestCase::Passed : TestCase::Failed;
      test.message = message;
      child.unread.erase(0, end + 1);
    }
    return true;
  }

  /// A child that crashed is replaced.
  Child finish(const Child &child, unsigned slot) {
    close(child.pipe);
    int status;
    waitpid(child.process, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
      return {};
    if (unsigned current = currentTest(slot).exchange(0)) {
      TestCase &test = cases[current - 1];
      test.result = TestCase::Crashed;
      int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      test.message = signal == SIGALRM ? "timed out"
                     : signal          ? strsignal(signal)
                                       : "exited";
    }
    return start(slot);
  }

  std::vector<TestCase> &cases;
  std::atomic<unsigned> *shared;
};

} // namespace

static std::vector<TestCase> findTests() {
  Regex pattern(filter);
  std::vector<TestCase> cases;
  for (const std::string &suite : listDirectory(dataDirectory))
    for (const std::string &test : listDirectory(suite)) {
      StringRef suiteName = sys::path::filename(suite);
      if (!suites.empty() && !is_contained(suites, suiteName))
        continue;
      std::string name = (suiteName + "/" + sys::path::filename(test)).str();
      if (sys::fs::exists(test + "/model.onnx") && pattern.match(name))
        cases.push_back({.name = name, .message = ""});
    }
  llvm::sort(cases, [](auto &a, auto &b) { return a.name < b.name; });
  return cases;
}

/// Reads SUITE/TEST: reason.
static std::map<std::string, std::string, std::less<>> readUnsupported() {
  std::map<std::string, std::string, std::less<>> unsupported;
  if (unsupportedFile.empty())
    return unsupported;
  auto file = MemoryBuffer::getFile(unsupportedFile);
  if (!file)
    report_fatal_error(Twine(unsupportedFile) + ": " +
                       file.getError().message());
  SmallVector<StringRef> lines;
  (*file)->getBuffer().split(lines, '\n', -1, /*KeepEmpty=*/false);
  if (!is_sorted(lines))
    report_fatal_error(Twine(unsupportedFile) + " is not sorted");
  for (StringRef line : lines) {
    auto [name, reason] = line.split(": ");
    unsupported.emplace(name, reason);
  }
  return unsupported;
}

namespace {
struct Count {
  unsigned passed = 0, unsupported = 0, total = 0;
};
} // namespace

/// Prints what is not as it should be, and how many are. False if any is not.
static bool report(const std::vector<TestCase> &cases) {
  auto unsupported = readUnsupported();
  std::map<std::string, Count> counts;
  bool good = true;
  for (const TestCase &test : cases) {
    Count &count = counts[StringRef(test.name).split('/').first.str()];
    ++count.total;
    bool isListed = unsupported.count(test.name);
    bool hasPassed = test.result == TestCase::Passed;
    count.passed += hasPassed;
    count.unsupported += isListed && test.result == TestCase::Failed;
    if (printUnsupported && test.result == TestCase::Failed)
      outs() << test.name << ": " << test.message << "\n";
    if (test.result != TestCase::Crashed && hasPassed != isListed)
      continue;
    good = false;
    if (hasPassed)
      errs() << test.name << ": passes; take it off " << unsupportedFile
             << "\n";
    else if (test.result == TestCase::Crashed)
      errs() << test.name << ": crashed: " << test.message << "\n";
    else if (!printUnsupported)
      errs() << test.name << ": " << test.message << "\n";
  }
  for (const auto &[suite, count] : counts)
    errs() << suite << ": " << count.passed << " of " << count.total
           << " passed, " << count.unsupported << " are known to fail\n";
  return good && !cases.empty();
}

int main(int argc, char **argv) {
  cl::ParseCommandLineOptions(argc, argv);
  std::vector<TestCase> cases = findTests();
  if (listTests) {
    for (const TestCase &test : cases)
      outs() << test.name << "\n";
    return 0;
  }
  Runner(cases).run();
  return report(cases) ? 0 : 1;
}
