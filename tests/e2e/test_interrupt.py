# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ctrl-C, typed on the terminal of a compiled model: the first ends the answer,
the second the program.

The model never ends an answer by itself: the context is long, and the end of
text a token that it never learnt to write. So text is streaming whenever these
tests type, and an answer that Ctrl-C does not end fails by running on."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/models/austen"
TERCET = pathlib.Path(os.environ["TERCET_BIN_DIR"]) / "tercet"
ENDED = rb"answer \d+ tokens.*ended by interrupt\r\n"
CTRL_C, CTRL_D = b"\x03", b"\x04"
PATIENCE = 60  # seconds, for a machine that does other things as well


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The bundled model with room for more tokens than anybody waits for, and
    without an end: neither by id nor by the name that ends turns."""
    model = tmp_path_factory.mktemp("model")
    (model / "model.safetensors").symlink_to(MODEL / "model.safetensors")
    for file in MODEL.glob("*.json"):
        fields = json.loads(file.read_text().replace("<|eot_id|>", "<|turn|>"))
        if "eos_token_id" in fields:
            fields["eos_token_id"] = 2047
        if file.name == "config.json":
            fields["max_position_embeddings"] = 1 << 16
        (model / file.name).write_text(json.dumps(fields))
    path = model / "austen.exe"
    subprocess.run([TERCET, "compile", model, "-o", path], check=True)
    return path


class Terminal:
    """A program on a terminal of its own, which makes Ctrl-C a signal."""

    def __init__(self, *command):
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.execv(command[0], [*map(str, command)])
        self.text = b""
        self.status = None

    def type(self, keys):
        os.write(self.file, keys)

    def read(self):
        """What the program wrote next; nothing when it has ended."""
        assert select.select([self.file], [], [], PATIENCE)[0], self.text[-300:]
        try:
            piece = os.read(self.file, 1 << 16)
        except OSError:  # EIO: the other end is closed.
            piece = b""
        self.text += piece
        return piece

    def wait_for(self, pattern):
        """Reads up to the first match and forgets what came before its end."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.text)):
            assert time.monotonic() < deadline and self.read(), self.text[-300:]
        self.text = self.text[match.end():]
        return match

    def wait(self):
        """What is left of the text, and the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, self.text[-300:]
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.text, self.status


@pytest.fixture
def start(program):
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(program, *arguments))
        return terminals[-1]
    yield start
    for terminal in terminals:
        if terminal.status is None:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        os.close(terminal.file)


def interrupt_answer(terminal):
    """Ctrl-C between two words; the text up to there stays."""
    terminal.wait_for(rb"\w+ \w+")
    terminal.type(CTRL_C)
    terminal.wait_for(ENDED)


def test_chat_goes_on(start):
    chat = start("--chat")
    for turn in (b"Who are you?\n", b"Where do you live?\n"):
        chat.wait_for(rb"> ")
        chat.type(turn)
        chat.wait_for(re.escape(turn.rstrip()) + rb"\r\n")  # the terminal's echo
        interrupt_answer(chat)
        chat.wait_for(rb"\(Ctrl-C again or Ctrl-D ends the program\)\r\n")
    chat.wait_for(rb"> ")
    chat.type(CTRL_D)
    assert chat.wait()[1] == 0


def test_second_ends_the_chat(start):
    chat = start("--chat")
    chat.wait_for(rb"> ")
    chat.type(b"Who are you?\n")
    chat.wait_for(rb"\?\r\n")
    interrupt_answer(chat)
    chat.wait_for(rb"Ctrl-C again")
    chat.type(CTRL_C)
    assert chat.wait()[1] == 130


def test_prompt_ends_with_its_answer(start):
    """Nothing comes after the answer of -p: the program ends as if no more text
    had been wanted."""
    writer = start("-p", "It was a truth", "-n", 60000)
    interrupt_answer(writer)
    assert writer.wait() == (b"", 0)


def is_pending(pid, number):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[1], 16) >> (number - 1) & 1


def test_second_ends_a_program_that_cannot_write(program):
    """Nobody reads its text, so the first Ctrl-C cannot end the answer."""
    out, into = os.pipe()
    own = os.open(f"/proc/self/fd/{into}", os.O_WRONLY | os.O_NONBLOCK)
    process = subprocess.Popen([program, "-p", "It was a truth"], stdout=into, stderr=subprocess.DEVNULL)
    try:
        assert os.read(out, 1)
        with pytest.raises(BlockingIOError):  # Now the pipe is full.
            while True:
                os.write(own, b"x")
        process.send_signal(signal.SIGINT)
        while is_pending(process.pid, signal.SIGINT):
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        for file in (out, into, own):
            os.close(file)
