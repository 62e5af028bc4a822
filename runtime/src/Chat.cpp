// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --chat: one line of stdin is one turn. Every turn renders the whole
// conversation, as the template defines it; the generator finds that its
// beginning is in the KV cache already.

#include "runtime/src/ChatTemplate.h"
#include "runtime/src/Commands.h"
#include "runtime/src/Console.h"
#include "runtime/src/Generator.h"
#include "runtime/src/Utf8.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Special tokens in what people write
//===----------------------------------------------------------------------===//

namespace {
/// Turns a conversation into tokens. The template's own special tokens must
/// count as such and those typed by the user must not, but a template renders
/// both into one text, and cutting that at the borders of a message would
/// tokenise "User: " + "hello" differently. So only a special token inside a
/// message is broken up, by a mark that no text contains.
class ConversationEncoder {
public:
  ConversationEncoder(const Tokenizer &tokenizer, const ChatTemplate &chat,
                      bool allowSpecial);

  Error encode(const Conversation &conversation,
               std::vector<int32_t> &tokens) const;

private:
  std::string breakSpecial(std::string text) const;

  static constexpr std::string_view Mark = "\xEF\xB7\x90"; // U+FDD0

  const Tokenizer &tokenizer;
  const ChatTemplate &chat;
  std::vector<std::string_view> specialTexts;
};
} // namespace

ConversationEncoder::ConversationEncoder(const Tokenizer &tokenizer,
                                         const ChatTemplate &chat,
                                         bool allowSpecial)
    : tokenizer(tokenizer), chat(chat) {
  for (int32_t id = 0; !allowSpecial && id < tokenizer.numTokens(); ++id)
    if (tokenizer.isSpecial(id) && !tokenizer.bytes(id).empty())
      specialTexts.push_back(tokenizer.bytes(id));
}

std::string ConversationEncoder::breakSpecial(std::string text) const {
  for (std::string_view special : specialTexts)
    for (size_t at = 0; (at = text.find(special, at)) != std::string::npos;
         at += Mark.size())
      text.insert(at + decodeUtf8(special).length, Mark);
  return text;
}

Error ConversationEncoder::encode(const Conversation &conversation,
                                  std::vector<int32_t> &tokens) const {
  Conversation broken = conversation;
  for (ChatMessage &message : broken.messages)
    message.content = breakSpecial(std::move(message.content));
  std::string text;
  if (Error error = chat.render(broken, text))
    return error;
  EncodeOptions options;
  options.addSpecial = false; // The template writes what it wants.
  options.allowSpecial = true;
  for (std::string_view rest = text;;) {
    size_t end = rest.find(Mark);
    if (Error error = tokenizer.encode(rest.substr(0, end), options, tokens))
      return error;
    if (end == std::string_view::npos)
      return Error::success();
    rest.remove_prefix(end + Mark.size());
  }
}

//===----------------------------------------------------------------------===//
// Conversation
//===----------------------------------------------------------------------===//

/// Reads a line that is not empty; false at the end of stdin.
static bool readTurn(std::string &text) {
  bool onTerminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  char *line = nullptr;
  size_t capacity = 0;
  for (text.clear(); text.empty();) {
    if (interrupted())
      note("(Ctrl-C again or Ctrl-D ends the program)");
    if (onTerminal)
      fputs("> ", stderr);
    errno = 0;
    ssize_t length = getline(&line, &capacity, stdin);
    if (length >= 0) {
      while (length > 0 &&
             (line[length - 1] == '\n' || line[length - 1] == '\r'))
        --length;
      text = repairUtf8({line, static_cast<size_t>(length)});
    } else if (errno == EINTR) {
      clearerr(stdin);
    } else {
      break;
    }
  }
  free(line);
  clearInterrupt();
  return !text.empty();
}

static Conversation startConversation(const Tokenizer &tokenizer,
                                      const std::string &system) {
  Conversation conversation;
  auto textOf = [&](int32_t token) {
    return token < 0 ? std::string() : std::string(tokenizer.bytes(token));
  };
  conversation.bosToken = textOf(tokenizer.bosToken());
  conversation.eosToken = textOf(tokenizer.eosToken());
  conversation.padToken = textOf(tokenizer.padToken());
  conversation.unknownToken = textOf(tokenizer.unknownToken());
  // Fixed for all turns: a changed date would invalidate the KV cache.
  conversation.now = time(nullptr);
  if (!system.empty())
    conversation.messages.push_back({"system", system});
  return conversation;
}

Error tercet::runChat(Session &session, const Artifact &artifact,
                      const Tokenizer &tokenizer, const CommandLine &line) {
  std::string_view source = artifact.section(TERCET_SECTION_CHAT_TEMPLATE);
  if (source.empty())
    return Error("this model has no chat template: use -p TEXT");
  std::unique_ptr<ChatTemplate> chat;
  if (Error error = ChatTemplate::parse(source, chat))
    return error;

  ConversationEncoder encoder(tokenizer, *chat, line.specialTokens);
  AnswerRules rules(artifact, &tokenizer, line);
  Generator generator(session, rules);
  Conversation conversation = startConversation(tokenizer, line.system);
  std::string turn;
  for (bool first = true; readTurn(turn); first = false) {
    conversation.messages.push_back({"user", turn});
    std::vector<int32_t> prompt;
    if (Error error = encoder.encode(conversation, prompt))
      return error;
    if (prompt.size() > session.context() && !first) {
      note("the conversation fills the context of %u tokens: it ends here",
           session.context());
      return Error::success();
    }
    Answer answer;
    if (Error error = generator.answer(prompt, writeOutput, answer))
      return error;
    if (Error error = writeOutput("\n"))
      return error;
    note("%s", describeRates(answer).c_str());
    if (answer.reason == StopReason::ContextFull) {
      note("the context of %u tokens is full: the conversation ends here",
           session.context());
      return Error::success();
    }
    conversation.messages.push_back({"assistant", answer.text});
  }
  return Error::success();
}
