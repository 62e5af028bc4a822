// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/CommandLine.h"

#include <gtest/gtest.h>

using namespace tercet;

static std::string parse(std::vector<std::string> words, CommandLine &line) {
  std::vector<char *> argv = {const_cast<char *>("model")};
  for (std::string &word : words)
    argv.push_back(word.data());
  return parseCommandLine(argv.size(), argv.data(), line).message();
}

static std::string messageOf(std::vector<std::string> words) {
  CommandLine line;
  return parse(std::move(words), line);
}

TEST(CommandLine, ReadsValues) {
  CommandLine line;
  EXPECT_EQ(parse({"-p", "--chat", "-n", "5", "--temp=0.5", "--top-k", "3",
                   "--stop", "a", "--stop=b=c", "--json"},
                  line),
            "");
  EXPECT_EQ(line.action, Action::Text);
  EXPECT_EQ(line.input, "--chat");
  EXPECT_EQ(line.maxTokens, 5);
  EXPECT_EQ(line.temperature, 0.5);
  EXPECT_EQ(line.topK, 3);
  EXPECT_FALSE(line.topP.has_value());
  EXPECT_EQ(line.stops, (std::vector<std::string>{"a", "b=c"}));
  EXPECT_TRUE(line.json);
}

TEST(CommandLine, NamesWhatIsWrong) {
  EXPECT_EQ(messageOf({"--chatt"}),
            "unknown argument '--chatt' (--help lists them all)");
  EXPECT_EQ(messageOf({"-p", "x", "-n"}), "-n: expected N after it");
  EXPECT_EQ(messageOf({"--chat=1"}), "--chat: takes no value");
  EXPECT_EQ(messageOf({"--top-p", "1.5"}),
            "--top-p 1.5: expected a number from 0 to 1");
  EXPECT_EQ(messageOf({"--temp", "nan"}),
            "--temp nan: expected a number from 0 to 100");
  EXPECT_EQ(messageOf({"--threads", "0"}),
            "--threads 0: expected a whole number from 1 to 1024");
  EXPECT_EQ(messageOf({"--seed", "-1"}),
            "--seed -1: expected a whole number, at least 0");
  EXPECT_NE(messageOf({"--chat", "--bench"}), "");
  EXPECT_NE(messageOf({"--info", "--logits", "x.npy"}), "");
  EXPECT_NE(messageOf({"--stop", "", "-p", "x"}), "");
  EXPECT_NE(messageOf({}), "");
}

TEST(CommandLine, HelpWins) {
  EXPECT_EQ(messageOf({"--help", "--chat"}), "");
  EXPECT_EQ(messageOf({"--chat", "--help"}), "");
  EXPECT_NE(helpText("m").find("--perplexity FILE"), std::string::npos);
  EXPECT_EQ(helpText("m").find("--chunk"), std::string::npos);
}

TEST(CommandLine, ReadsTokens) {
  std::vector<int32_t> tokens;
  EXPECT_FALSE(parseTokens("1, 2\n3", tokens));
  EXPECT_EQ(tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(parseTokens("1,x", tokens).message(),
            "--tokens x: expected a whole number from 0 to 2147483647");
  tokens.clear();
  EXPECT_TRUE(parseTokens(",", tokens));
}
