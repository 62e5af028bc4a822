// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/ChatTemplate.h"
#include "runtime/src/Jinja/Interpreter.h"

using namespace tercet;
using namespace tercet::jinja;
using namespace std::literals;

struct ChatTemplate::Impl {
  Syntax syntax;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

static Error inTemplate(const Error &error) {
  return Error("chat template, " + error.message());
}

Error ChatTemplate::parse(std::string_view source,
                          std::unique_ptr<ChatTemplate> &result) {
  auto impl = std::make_unique<Impl>();
  impl->syntax.source = source;
  if (Error error = jinja::parse(impl->syntax))
    return inTemplate(error);
  result.reset(new ChatTemplate(std::move(impl)));
  return Error::success();
}

Error ChatTemplate::render(const Conversation &conversation,
                           std::string &text) const {
  Heap heap;
  std::vector<Value> messages;
  for (const auto &[role, content] : conversation.messages)
    messages.push_back(heap.dict({{"role"sv, std::string_view(role)},
                                  {"content"sv, std::string_view(content)}}));

  Interpreter interpreter(heap, conversation.now);
  interpreter.define("messages", heap.list(std::move(messages)));
  interpreter.define("add_generation_prompt", conversation.addGenerationPrompt);
  interpreter.define("tools", None());
  interpreter.define("documents", None());
  std::pair<std::string_view, std::string_view> const tokens[] = {
      {"bos_token", conversation.bosToken},
      {"eos_token", conversation.eosToken},
      {"pad_token", conversation.padToken},
      {"unk_token", conversation.unknownToken}};
  for (auto [name, token] : tokens)
    if (!token.empty())
      interpreter.define(name, token);

  text.clear();
  if (Error error = interpreter.run(impl->syntax, text))
    return inTemplate(error);
  return Error::success();
}
