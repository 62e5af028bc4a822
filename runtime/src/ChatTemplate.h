// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Renders a conversation as the text that a model was trained on: the Jinja
// template of its checkpoint, as transformers' apply_chat_template does.

#ifndef TERCET_RUNTIME_CHATTEMPLATE_H
#define TERCET_RUNTIME_CHATTEMPLATE_H

#include "runtime/src/Error.h"

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tercet {

struct ChatMessage {
  std::string role; // "system", "user" or "assistant"
  std::string content;
};

struct Conversation {
  std::vector<ChatMessage> messages;
  bool addGenerationPrompt = true; // end where the assistant's answer starts
  // Empty: the model has none.
  std::string bosToken, eosToken, padToken, unknownToken;
  std::time_t now = 0; // for strftime_now, in local time
};

class ChatTemplate {
public:
  /// Errors name the template's line.
  static Error parse(std::string_view source,
                     std::unique_ptr<ChatTemplate> &result);
  ~ChatTemplate();

  Error render(const Conversation &conversation, std::string &text) const;

private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace tercet

#endif // TERCET_RUNTIME_CHATTEMPLATE_H
