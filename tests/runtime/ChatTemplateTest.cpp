// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The embedding of the template interpreter; tests/e2e/test_chat_template.py
// compares its language with Jinja's.

#include "runtime/src/ChatTemplate.h"

#include <gtest/gtest.h>

using namespace tercet;

static std::string render(std::string_view source,
                          const Conversation &conversation) {
  std::unique_ptr<ChatTemplate> chatTemplate;
  if (Error error = ChatTemplate::parse(source, chatTemplate))
    return "error: " + error.message();
  std::string text;
  if (Error error = chatTemplate->render(conversation, text))
    return "error: " + error.message();
  return text;
}

TEST(ChatTemplate, RendersAConversation) {
  std::string_view source =
      "{% for message in messages %}\n"
      "{% set content = message['role'] | capitalize + ': ' + "
      "message['content'] | trim + '<|eot_id|>' %}\n"
      "{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
      "{% endif %}\n"
      "{{ content }}\n"
      "{% endfor %}\n"
      "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";
  Conversation conversation;
  conversation.messages = {{"user", " Hi \n"}, {"assistant", "Yes?"}};
  conversation.bosToken = "<s>";
  EXPECT_EQ(render(source, conversation),
            "<s>User: Hi<|eot_id|>\nAssistant: Yes?<|eot_id|>\nAssistant: ");
  conversation.addGenerationPrompt = false;
  conversation.messages.pop_back();
  EXPECT_EQ(render(source, conversation), "<s>User: Hi<|eot_id|>\n");
}

TEST(ChatTemplate, RendersManyTimes) {
  std::unique_ptr<ChatTemplate> chatTemplate;
  ASSERT_FALSE(ChatTemplate::parse(
      "{% set ns = namespace(n=0) %}{% for m in messages %}"
      "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n ~ 'x' }}",
      chatTemplate));
  Conversation conversation;
  for (int i = 1; i < 4; ++i) {
    conversation.messages.push_back({"user", ""});
    std::string text;
    ASSERT_FALSE(chatTemplate->render(conversation, text));
    EXPECT_EQ(text, std::to_string(i) + "x");
  }
}

TEST(ChatTemplate, LeavesTokensThatTheModelLacksUndefined) {
  EXPECT_EQ(render("{{ bos_token is defined }}|{{ bos_token }}", {}), "False|");
}

TEST(ChatTemplate, NamesTheLineOfAnError) {
  EXPECT_EQ(render("a\n{% if %}", {}),
            "error: chat template, line 2: unexpected '%}'");
  EXPECT_EQ(render("\n\n{{ raise_exception('no user') }}", {}),
            "error: chat template, line 3: the template refuses the "
            "conversation: no user");
  EXPECT_EQ(render("{{ a.b }}", {}),
            "error: chat template, line 1: 'a' is undefined");
}

TEST(ChatTemplate, StopsAHostileTemplate) {
  EXPECT_EQ(render("{% set r = range(99999) %}{% for a in r %}{% for b in r %}"
                   "{% endfor %}{% endfor %}",
                   {}),
            "error: chat template, line 1: the template runs too long");
  EXPECT_EQ(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}),
            "error: chat template, line 1: the template calls itself too "
            "deeply");
}
