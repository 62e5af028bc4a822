# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The bundled model as a .gguf file, with the text half as converters write it:
its executable says what that of the directory does."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

TERCET = Path(os.environ["TERCET_BIN_DIR"], "tercet")
AUSTEN = Path(__file__).resolve().parents[1] / "models" / "austen"
LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.attn_sub_norm": "attn_sub_norm",
         "mlp.ffn_sub_norm": "ffn_sub_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def add_architecture(writer, config):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])


def add_text(writer):
    """What is not in the reach of gguf.SpecialVocab, as convert_hf_to_gguf.py does it."""
    state = json.loads((AUSTEN / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in state["added_tokens"]}
    contents = {i: content for content, i in {**state["model"]["vocab"], **added}.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([contents[i] for i in range(len(contents))])
    writer.add_token_types([gguf.TokenType.CONTROL if i in added.values() else gguf.TokenType.NORMAL
                            for i in range(len(contents))])
    gguf.SpecialVocab(AUSTEN, load_merges=True).add_to_gguf(writer, quiet=True)
    sampling = json.loads((AUSTEN / "generation_config.json").read_text())
    writer.add_sampling_temp(sampling["temperature"])
    writer.add_sampling_top_p(sampling["top_p"])


def add_weights(writer):
    """Ternary ones times their scale, in F32."""
    state = load_file(AUSTEN / "model.safetensors")
    for name, values in state.items():
        if name.endswith("_scale"):
            continue
        module = name.removesuffix(".weight")
        if module in ("model.embed_tokens", "model.norm"):
            module = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}[module]
        else:
            layer, module = module.removeprefix("model.layers.").split(".", 1)
            module = f"blk.{layer}.{LAYER[module]}"
        if values.dtype == torch.uint8:
            trits = torch.cat([(values >> 2 * i & 3).float() - 1 for i in range(4)])
            values = trits * state[name + "_scale"].float()
        writer.add_tensor(module + ".weight", values.float().numpy())


def write(path, with_text=True, **options):
    writer = gguf.GGUFWriter(path, "bitnet-b1.58", **options)
    add_architecture(writer, json.loads((AUSTEN / "config.json").read_text()))
    if with_text:
        add_text(writer)
    add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def run(*command, **options):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Of the directory, of the file."""
    directory = tmp_path_factory.mktemp("gguf")
    run(TERCET, "compile", AUSTEN, "-o", directory / "hf")
    run(TERCET, "compile", write(directory / "austen.gguf"), "-o", directory / "gguf")
    return directory / "hf", directory / "gguf"


COMMANDS = {
    "text": ["-p", "It is a truth", "-n", "60", "--seed", "5"],
    "greedy": ["-p", "It is a truth", "-n", "60", "--temp", "0"],
    "empty": ["-p", "", "-n", "20", "--seed", "1"],
    "special": ["-p", "She<|eot_id|>Assistant: ", "--special", "-n", "40", "--seed", "2"],
    "no-special": ["-p", "She<|eot_id|>Assistant: ", "-n", "20", "--seed", "2"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_says_the_same(programs, name):
    texts = [run(program, *COMMANDS[name]) for program in programs]
    assert texts[0] == texts[1] and texts[0].strip()


def test_chats_alike(programs):
    chats = [run(program, "--chat", "--seed", "3", "-n", "50", input="Who are you?\nWhere do you live?\n")
             for program in programs]
    assert chats[0] == chats[1] and chats[0].strip()


def test_reads_alike(programs, tmp_path):
    (tmp_path / "text").write_text("It is a truth universally acknowledged, that a single man in possession\n" * 9)
    assert len({run(program, "--perplexity", tmp_path / "text") for program in programs}) == 1


def test_without_tokenizer(programs, tmp_path):
    run(TERCET, "compile", write(tmp_path / "m.gguf", with_text=False), "-o", tmp_path / "m")
    options = ["--tokens", "3,1,4", "-n", "5", "--temp", "0", "--json"]
    tokens = [json.loads(run(program, *options))["tokens"] for program in (programs[0], tmp_path / "m")]
    assert tokens[0] == tokens[1]
    result = subprocess.run([tmp_path / "m", "-p", "x"], capture_output=True, text=True)
    assert result.returncode == 1 and "compiled without a tokenizer" in result.stderr


def test_parts_of_a_split_model(tmp_path):
    """`tercet run` keeps executables: a part that changed makes another one, a file beside it does not."""
    write(tmp_path / "m.gguf", split_max_tensors=40)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) > 1
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def compiled():
        text = run(TERCET, "run", parts[0], "-p", "It", "-n", "4", "--temp", "0", env=environment)
        return text, len(list((tmp_path / "cache" / "tercet").iterdir()))

    text, count = compiled()
    assert count == 1
    (tmp_path / "config.json").write_text("{}")
    assert compiled() == (text, 1)
    os.utime(parts[1], ns=(0, 0))
    assert compiled() == (text, 2)
    shutil.rmtree(tmp_path / "cache")
