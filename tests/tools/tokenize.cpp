// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The text half of the runtime on a command line, for tests against other
// implementations.

#include "frontends/Tokenizer/TokenizerBuilder.h"
#include "runtime/src/ChatTemplate.h"
#include "runtime/src/Tokenizer.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

namespace {

namespace cl = llvm::cl;

enum class Mode { Encode, Decode, Chat, Generation, Check };

cl::opt<std::string> model(cl::Positional, cl::Required,
                           cl::desc("<Hugging Face directory or .gguf>"));
cl::opt<Mode>
    mode("mode", cl::desc("What to do with stdin"), cl::init(Mode::Encode),
         cl::values(clEnumValN(Mode::Encode, "encode", "text to token ids"),
                    clEnumValN(Mode::Decode, "decode", "token ids to text"),
                    clEnumValN(Mode::Chat, "chat",
                               "a JSON list of messages to a prompt"),
                    clEnumValN(Mode::Generation, "generation",
                               "nothing: print BOS, ends and sampling"),
                    clEnumValN(Mode::Check, "check", "nothing: only load")));
cl::opt<uint32_t> vocabSize("vocab-size", cl::init(1u << 24),
                            cl::desc("Tokens of the model"));
cl::opt<bool> addSpecial("add-special",
                         cl::desc("Put the tokens around a text, such as BOS"));
cl::opt<bool> allowSpecial("allow-special",
                           cl::desc("Read special tokens in the text as such"));
cl::opt<bool> skipSpecial("skip-special",
                          cl::desc("Leave special tokens out of the text"));

cl::opt<bool> generationPrompt("generation-prompt",
                               cl::desc("End where the answer starts"));
cl::opt<int64_t> now("now", cl::desc("Seconds since 1970 for strftime_now"));

int fail(const llvm::Twine &message) {
  llvm::errs() << "error: " << message << '\n';
  return 1;
}

int chat(const tercet::TextAssets &assets, const tercet::Tokenizer &tokenizer,
         llvm::StringRef input) {
  auto json = llvm::json::parse(input);
  if (!json)
    return fail(llvm::toString(json.takeError()));
  tercet::Conversation conversation;
  for (const llvm::json::Value &value : *json->getAsArray()) {
    const llvm::json::Object &message = *value.getAsObject();
    conversation.messages.push_back({message.getString("role")->str(),
                                     message.getString("content")->str()});
  }
  conversation.addGenerationPrompt = generationPrompt;
  conversation.bosToken = tokenizer.bytes(tokenizer.bosToken());
  conversation.eosToken = tokenizer.bytes(tokenizer.eosToken());
  conversation.now = now;

  std::unique_ptr<tercet::ChatTemplate> chatTemplate;
  std::string prompt;
  if (tercet::Error error =
          tercet::ChatTemplate::parse(assets.chatTemplate, chatTemplate))
    return fail(error.message());
  if (tercet::Error error = chatTemplate->render(conversation, prompt))
    return fail(error.message());
  llvm::outs() << prompt;
  return 0;
}

void printGeneration(const tercet_generation &generation) {
  llvm::outs() << "bos " << generation.bos_token << " eos";
  for (int32_t i = 0; i < generation.num_eos; ++i)
    llvm::outs() << ' ' << generation.eos_tokens[i];
  llvm::outs() << llvm::formatv(" temperature {0:f3} top_p {1:f3} top_k {2}",
                                generation.temperature, generation.top_p,
                                generation.top_k);
}

int run() {
  auto assets = tercet::buildTextAssets(model, vocabSize);
  if (!assets)
    return fail(llvm::toString(assets.takeError()));
  for (const std::string &warning : assets->warnings)
    llvm::errs() << "warning: " << warning << '\n';
  if (mode == Mode::Check)
    return 0;
  if (mode == Mode::Generation) {
    printGeneration(assets->generation);
    return 0;
  }
  std::unique_ptr<tercet::Tokenizer> tokenizer;
  if (tercet::Error error =
          tercet::Tokenizer::create(assets->tokenizer, tokenizer))
    return fail(error.message());
  auto input = llvm::MemoryBuffer::getSTDIN();
  if (!input)
    return fail("cannot read stdin: " + input.getError().message());
  llvm::StringRef text = (*input)->getBuffer();

  if (mode == Mode::Chat)
    return chat(*assets, *tokenizer, text);
  if (mode == Mode::Encode) {
    std::vector<int32_t> tokens;
    if (tercet::Error error =
            tokenizer->encode(text, {addSpecial, allowSpecial}, tokens))
      return fail(error.message());
    llvm::interleave(tokens, llvm::outs(), " ");
    return 0;
  }
  std::vector<int32_t> tokens;
  for (llvm::StringRef word : llvm::split(text, " "))
    if (!word.empty() && word.getAsInteger(10, tokens.emplace_back()))
      return fail(word + " is not a token id");
  llvm::outs() << tokenizer->decode(tokens, skipSpecial);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  cl::ParseCommandLineOptions(argc, argv);
  return run();
}
