# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prompts against transformers' own rendering of chat templates."""

import json
import os
import pathlib
import subprocess
import time

import pytest

pytest.importorskip("transformers")
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("TERCET_BIN_DIR", ROOT / "build" / "bin"),
                    "tercet-test-tokenize")
TEMPLATES = pathlib.Path(__file__).parent / "chat_templates"

BOS, EOS = "<|begin_of_text|>", "<|eot_id|>"


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = {
    "one": [message("user", "Hello")],
    "system": [message("system", " Be  brief.\n"), message("user", "Hi\n\n")],
    "turns": [message("user", "a"), message("assistant", " b "),
              message("user", "\tc\u3000"), message("assistant", "d"),
              message("user", "e")],
    "nasty": [message("system", "{{ bos_token }} {% if %}"),
              message("user", "<|eot_id|>'\"\\ \r\n é 😀 <tag>&amp;\x00"),
              message("assistant", "<think>\nhm\n</think>\n\nyes"),
              message("user", "")],
    "none": [],
    "assistant-last": [message("user", "x"), message("assistant", "y")],
}

# The semantics of Jinja and Python, one construct a line.
EXPRESSIONS = r"""
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}
{{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 1e3 }} {{ 1e16 }} {{ 1.5e-7 }} {{ 0.1 + 0.2 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }} {{ 'a' + 'b' * 3 }} {{ 1 + 2 ~ 3 }} {{ 'ab' 'cd' }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ '1' == 1 }}
{{ 'b' in 'abc' }} {{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 3 not in (1, 2) }} {{ 'x' in undefined_name }}
{{ true and 0 }} {{ '' or 'x' }} {{ not 1 }} {{ not undefined_name }} {{ none or [] or 'end' }}
{{ 'yes' if 1 else 'no' }} {{ 'yes' if 0 }}| {{ 'a' if 0 else 'b' if 0 else 'c' }}
{{ [1, 'a', none, true, 1.5, [], {}, ()] }} {{ (1,) }} {{ {'a': 1, 'b': [2]} }} {{ 'it\'s' }} {{ ["it's", 'q"q', "\n"] }}
{{ 'hello'[1] }} {{ 'hello'[-1] }} {{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ [1,2,3,4][1:] }} {{ [1,2,3][:-1] }} {{ 'é😀x'[1] }} {{ [1,2,3,4,5][-1:0:-2] }}
{{ {'a': {'b': 5}}.a.b }} {{ {'a': 1}['a'] }} {{ {'a': 1}.b }}| {{ [10, 20].1 }} {{ messages[99] }}|
{{ '  x y '.strip() ~ '|' ~ ' x '.lstrip() ~ '|' ~ ' x '.rstrip() ~ '|' ~ 'xxaxx'.strip('x') }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b c'.split(maxsplit=1) }} {{ 'x'.split('</think>')[-1] }} {{ ' a b  c'.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.find('c') }} {{ 'ab\ncd\r\n\nx\n'.splitlines() }} {{ 'aXbX'.replace('X', '--') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aXa'.count('a') }}
{{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'hELLO wORLD'.capitalize() }} {{ 'hello world-wide'|title }} {{ ', '.join(['a', 'b']) }} {{ '12'.isdigit() }}
{{ 'ÀÉΩЖё' | lower }} {{ 'àéωжё' | upper }}
{{ ' x ' | trim }}| {{ 'abc' | length }} {{ [1,2] | count }} {{ 'é😀' | length }} {{ {} | length }} {{ 'user' | capitalize }}
{{ [1,2,3] | join('-') }} {{ ['a'] | join }} {{ [{'n': 'x'}, {'n': 'y'}] | join(', ', attribute='n') }}
{{ [3,1,2] | sort }} {{ ['b','A','c'] | sort }} {{ [3,1] | sort(reverse=true) }} {{ [1,1,2] | unique | list }} {{ {'b': 1, 'a': 2} | dictsort }}
{{ [1,2,3] | first }} {{ [1,2,3] | last }} {{ [1,2,3] | reverse | list }} {{ 'abc' | reverse }} {{ 'abc' | list }} {{ [[1,2],[3]] | sum(start=[]) }} {{ [1,2] | sum }} {{ [1,5,2] | max }} {{ [4,2] | min }}
{{ undefined_name | default('d') }} {{ '' | default('d') }}| {{ '' | default('d', true) }} {{ none | d('x', boolean=true) }}
{{ {'a': [1, 2.5, none, true], 'é"\n': 'x/<y>'} | tojson }} {{ [] | tojson }} {{ {} | tojson(indent=2) }}
{{ {'b': [1, {'c': 2}], 'a': []} | tojson(indent=2) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}
{{ [{'r': 'u'}, {'r': 'a'}] | map(attribute='r') | list }} {{ ['a', 'b'] | map('upper') | join }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }}
{{ [1,2,3,4] | select('odd') | list }} {{ [1,2,3] | reject('gt', 1) | list }} {{ [{'r': 'u'}, {'r': 'a'}] | selectattr('r', 'equalto', 'u') | list }} {{ [{'r': 1}, {}] | selectattr('r', 'defined') | list }} {{ [0, 1, ''] | select | list }} {{ messages | rejectattr('role', 'in', ['system']) | list | length }}
{{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ 'a\n\nb' | indent('> ', blank=true) }}
{{ '3' | int + 1 }} {{ 'x' | int }} {{ '3.9' | int }} {{ 3.9 | int }} {{ '2.5' | float }} {{ 3 | string ~ 1 }} {{ 2.567 | round(2) }} {{ -3 | abs }} {{ 2.5 | round }} {{ 2.1 | round(0, 'ceil') }}
{{ '<a href="x">' | e }} {{ '<b>' | safe }}
{{ x is defined }} {{ messages is defined }} {{ none is none }} {{ 'a' is string }} {{ 1 is number }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ {} is mapping }} {{ [] is sequence }} {{ 'a' is iterable }} {{ 1 is odd }} {{ 4 is even }} {{ 6 is divisibleby 3 }} {{ 6 is divisibleby(4) }} {{ 1 is not none }} {{ 'a' is in ['a'] }} {{ true is true }} {{ 'ab' is lower }} {{ tools is none }} {{ 1 is eq 1 }} {{ x is not defined and 1 }}
{{ range(3) | list }} {{ range(1, 10, 3) | list }} {{ range(3, 0, -1) | list }} {{ dict(a=1, b=2) }} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 'z') }} {{ {'a': 1}.items() | list }} {{ {'a': 1}.keys() | list }} {{ {'a': 1} | items | list }}
{{ "\x41\u00e9\U0001f600\t\\ \q \101" }} {{ 1_000 }} {{ -1 | abs }} {{ 'a' 'b' | upper }} {{ 'a' + 'b' | upper }}
{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }}
""".strip().split("\n")

STATEMENTS = [
    "{% set x = 1 %}{% set y, z = 2, 3 %}{{ x }}{{ y }}{{ z }}\n",
    "{% for i in [1,2,3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %} {% for i in [1,2,3,4] if i is odd %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a + b + c }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, found=false) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% set ns.found = true %}{% endfor %}{{ ns.x }}{{ ns.found }}",
    "{% for i in [1,2,3,4] %}{% if i == 2 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% if 0 %}a{% elif 0 %}b{% elif 1 %}c{% else %}d{% endif %}{% if none %}x{% endif %}",
    "{% macro m(a, b='B', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m() }}{{ m(a='x') | upper }}",
    "{% macro fact(n) %}{{ n * (fact(n - 1) | int) if n > 1 else 1 }}{% endmacro %}{{ fact(6) }}",
    "{% set t %}  block {{ 1 + 1 }} {% endset %}[{{ t }}]{% set u | trim | upper %} abc {% endset %}[{{ u }}]",
    "{% filter upper %}abc {{ 'x' }}{% endfilter %}{% filter replace('a', 'b') | trim %} aa {% endfilter %}",
    "{% raw %}{{ not }} {% this %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  |",
    "a {# comment #} b\n{# own line #}\nc\n  {#- strip -#}  \nd",
    "  {% if 1 %}\n    x\n  {% endif %}\n  y {% if 1 %} z {% endif %}\n\n",
    "  {%+ if 1 %}\n x\n {% endif +%}\n y",
    "a  {{- ' b ' -}}  c\n {{ 'd' }}\n{%- if 1 -%}\n\n e \n\n{%- endif -%}\n f\n",
    "line\r\n{% if 1 %}\r\nx\r\n{% endif %}\rend\r\n",
    "{% for m in messages %}{% for n in messages %}{{ loop.index }}{{ n.role[0] }}{% endfor %};{{ loop.index }}{% endfor %}",
    "{% for m in messages | selectattr('role', 'equalto', 'user') %}{{ m.content | trim }};{% endfor %}",
    "{% set messages = messages[1:] %}{{ messages | length }}{% for m in messages[::-1] %}{{ m['role'] }}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{{ {'a': {'b': 1}}['a']}}{{ {'a': {'b': {}}} }}",
    "{% set x = {'n': [1, 2]} %}{{ x.n[1] }}{% set x = dict(x, y=2) %}{{ x }}",
    "{{ undefined_name }}{{ undefined_name is defined }}{% for i in undefined_name %}x{% endfor %}{{ undefined_name | length }}{{ undefined_name | trim }}{{ undefined_name ~ 'x' }}",
    "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ add_generation_prompt }}",
    "{% if (messages | length > 1) and not (messages[0].role == 'system') %}x{% endif %}",
    "{% for i in range(3) %}{% if not loop.first %}, {% endif %}{{ i }}{% endfor %}\n",
    "{%- for i in (1, 2) -%}\n  {{ i }}\n{%- endfor %}\n\n",
    "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}{{ 1, 2 }}",
    "{{ loop is defined }}{% for x in [1] %}{% set y = x %}{% endfor %}{{ y is defined }}",
]

# Must be an error in both.
ERRORS = {
    "{{ raise_exception('no system') }}": "no system",
    "a\n{{ 1 + }}": "line 2",
    "{% if 1 %}": "endif",
    "{% endfor %}": "endfor",
    "{{ 'abc }}": "no end",
    "{{ x.y.z }}": "'x' is undefined",
    "{{ 1 + 'a' }}": "line 1",
    "{{ 1 / 0 }}": "zero",
    "{{ x() }}": "'x' is undefined",
    "{{ 1 | nofilter }}": "nofilter",
    "{{ 1 is notest }}": "notest",
    "{% unknown %}": "unknown",
    "{{ [1] < 'a' }}": "compare",
    "{% for i in 5 %}{% endfor %}": "iterate",
    "{% set a, b = [1] %}": "unpack",
    "{{ range(1000000) }}": "100000",
    "{{ none.x }}{{ none.x.y }}": "line 1",
    "{{ ": "line 1",
    "{{ } }}": "unexpected",
    "{{ 1 2 }}": "unexpected",
    "{% set x %}": "endset",
    "{{ messages.append(1) }}": "line 1",
}

# Would take forever, or all memory, or the stack.
HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}" + "{% if 1 %}" * 150 + "{{ m() }}" + "{% endif %}" * 150 + "{% endmacro %}{{ m() }}",
    "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x }}",
    "{{ 'x' * 99999999999 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "{{ " + "1 + " * 100000 + "1 }}",
    "{{ " + "not " * 100000 + "1 }}",
    "{{ " + "-" * 100000 + "1 }}",
    "{{ 1" + "|abs" * 100000 + " }}",
    "{{ x" + "[0]" * 100000 + " }}",
    "{% if 1 %}" * 100000,
    "{% if 0 %}" + "{% elif 0 %}" * 100000 + "{% endif %}",
    "{{ " + "[" * 100000 + " }}",
    "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "{% set n = namespace() %}{% set n.n = n %}{{ n }}{% for i in range(99999) %}{% set n.n = namespace(n=n.n) %}{% endfor %}{{ 1 + none }}",
    "{{ 'a' | replace('', 'x' * 999999) }}",
    "{{ ('a' * 999999) | replace('a', 'x' * 999) }}",
    "{{ (range(99999) | list) | sort(reverse=true) }}",
    "{{ ('ab ' * 999999).split() | join('x' * 9999) }}",
    "{% macro a(n) %}{% if n %}{{ a(n - 1) }}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(60) }}",
]


@pytest.fixture
def directory(tmp_path):
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def render(directory, template, messages, prompt, now=0):
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": BOS, "eos_token": {"content": EOS}}))
    (directory / "chat_template.jinja").write_bytes(template.encode())
    return subprocess.run(
        [TOOL, directory, "--mode=chat", f"--now={int(now)}"] +
        ["--generation-prompt"] * prompt, input=json.dumps(messages).encode(),
        capture_output=True, timeout=60)


def reference(template, messages, prompt):
    texts, _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=prompt,
        bos_token=BOS, eos_token=EOS)
    return texts[0]


def assert_same(directory, template, messages, prompt=False):
    try:
        expected = reference(template, messages, prompt)
    except Exception as error:  # jinja2's own types, and Python's
        expected = error
    result = render(directory, template, messages, prompt, time.time())
    if isinstance(expected, Exception):
        assert result.returncode == 1, expected
    else:
        assert result.returncode == 0, result.stderr.decode()
        assert result.stdout.decode() == expected


@pytest.mark.parametrize("line", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_expressions(directory, line):
    assert_same(directory, line, CONVERSATIONS["turns"])


@pytest.mark.parametrize("template", STATEMENTS, ids=range(len(STATEMENTS)))
def test_statements(directory, template):
    assert_same(directory, template, CONVERSATIONS["turns"])


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", sorted(p.stem for p in TEMPLATES.glob("*.jinja")))
def test_models(directory, name, conversation):
    template = (TEMPLATES / f"{name}.jinja").read_bytes().decode()
    for prompt in (False, True):
        assert_same(directory, template, CONVERSATIONS[conversation], prompt)


@pytest.mark.parametrize("template", ERRORS, ids=range(len(ERRORS)))
def test_errors(directory, template):
    with pytest.raises(Exception):
        reference(template, CONVERSATIONS["one"], False)
    result = render(directory, template, CONVERSATIONS["one"], False)
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: chat template, line ")
    assert ERRORS[template] in result.stderr.decode()


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile(directory, template):
    start = time.monotonic()
    result = render(directory, template, CONVERSATIONS["one"], False)
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: chat template, line ")
    assert time.monotonic() - start < 20
