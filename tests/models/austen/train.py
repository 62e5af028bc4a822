#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains the bundled BitNet b1.58 (tests/models/austen) from scratch on a CPU.

    apt-get install r-cran-janeaustenr bible-kjv-text
    pip install torch numpy tokenizers safetensors
    python tests/models/austen/train.py --out DIR --minutes 75     schedule by wall clock
    python tests/models/austen/train.py --out DIR --steps N        schedule by steps (repeatable)
    python tests/models/austen/train.py --out DIR --minutes 75 --resume    go on from DIR/state.pt
    python tests/models/austen/train.py --out DIR --export-only    re-export DIR/state.pt

DIR receives the Hugging Face files, loss.csv and its picture loss.svg, and the
latent weights (state.pt).

Quantisation-aware: latent fp32 matrices; every forward pass sees their absmean
ternary codes and per-token absmax int8 activations, gradients go straight
through. Both codes are small integers, hence exact in bfloat16: the matrix
products run in bf16 on CPUs that have it without touching the quantised values.

Five Austen novels and the King James Bible are trained on; Persuasion is seen
neither by the tokenizer nor by the training (tests/models/corpus.py).
"""

import argparse
import csv
import json
import math
import os
import re
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import corpus  # noqa: E402
import draw_loss  # noqa: E402

SEED = 1817
SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|reserved_special_token_2|>",
]
CONFIG = {
    "architectures": ["BitNetForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": None,
    "hidden_act": "relu2",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": 1024,
    "model_type": "bitnet",
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 2048,
    "quantization_config": {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head"],
    },
}
# The 2B-4T's template: "User: ...<|eot_id|>Assistant: ...<|eot_id|>".
CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Sequence length by the share of the schedule that is over.
LENGTHS = [(0.55, 256), (0.85, 512), (1.01, 1024)]
CHAT_SHARE = 0.04
VALIDATION_SHARE = 0.015


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(texts, vocab_size):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    bos = SPECIAL[0]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A",
                pair=f"{bos} $A {bos}:1 $B:1",
                special_tokens=[(bos, tokenizer.token_to_id(bos))],
            ),
        ]
    )
    assert tokenizer.get_vocab_size() == vocab_size
    return tokenizer


# ---------------------------------------------------------------- data


def wrapped_bible():
    """Verses wrapped like the novels' lines, so that line ends stay learnable."""
    return "\n".join(textwrap.fill(line, 72) for line in corpus.bible().split("\n"))


class Data:
    """Random windows [BOS] + text, as the perplexity protocol cuts them."""

    def __init__(self, tokenizer, novels, scripture):
        ids = lambda text: np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        self.bos, self.eos, self.eot = (tokenizer.token_to_id(token) for token in SPECIAL[:3])
        train, valid = [], []
        self.valid_bytes = 0
        for novel in novels:
            cut = novel.index("\n\n", int(len(novel) * (1 - VALIDATION_SHARE)))
            train.append(np.append(ids(novel[:cut]), self.eos))
            valid.append(ids(novel[cut:]))
            self.valid_bytes += len(novel[cut:].encode())
        self.novels = np.concatenate(train)
        self.valid = np.concatenate(valid)
        self.scripture = np.append(ids(scripture), self.eos)
        self.chat = self.dialogues(tokenizer, novels)
        self.rng = np.random.default_rng(SEED)

    def dialogues(self, tokenizer, novels):
        """Paragraph and answer-paragraph as chat turns, so that an answer ends in <|eot_id|>."""
        out = []
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        lead = encode("Assistant: ")
        for novel in novels:
            novel = novel[: int(len(novel) * (1 - VALIDATION_SHARE))]
            paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", novel)]
            paragraphs = [p for p in paragraphs if 20 < len(p) < 600]
            for user, answer in zip(paragraphs[::2], paragraphs[1::2]):
                turn = encode("User: " + user) + [self.eot] + lead + encode(answer) + [self.eot]
                out.append(np.array(turn, dtype=np.int64))
        return out

    def batch(self, rows, length, scripture_share):
        out = np.empty((rows, length + 1), dtype=np.int64)
        out[:, 0] = self.bos
        for row in out:
            draw = self.rng.random()
            if draw < CHAT_SHARE:
                at = self.rng.integers(len(self.chat))
                turns = np.concatenate([self.chat[(at + i) % len(self.chat)] for i in range(length // 20 + 2)])
                row[1:] = turns[:length] if len(turns) >= length else np.resize(turns, length)
                continue
            source = self.scripture if draw < CHAT_SHARE + scripture_share else self.novels
            at = self.rng.integers(len(source) - length)
            row[1:] = source[at : at + length]
        return torch.from_numpy(out)


# ---------------------------------------------------------------- model


class BitLinear(torch.autograd.Function):
    """y = linear(absmax int8 x, absmean ternary w) for matrices that share their input."""

    @staticmethod
    def forward(ctx, x, *weights):
        codes, scales = [], []
        for w in weights:
            gamma = w.abs().mean().clamp(min=1e-5)
            codes.append((w / gamma).round().clamp(-1, 1).to(torch.bfloat16))
            scales.append(gamma.expand(w.shape[0]))
        code, gamma = torch.cat(codes), torch.cat(scales)
        x = x.float()
        step = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
        x_code = (x / step).round().clamp(-128, 127).to(torch.bfloat16)
        ctx.save_for_backward(x_code, step, code, gamma)
        ctx.rows = [w.shape[0] for w in weights]
        return F.linear(x_code, code).float() * step * gamma

    @staticmethod
    def backward(ctx, grad):
        x_code, step, code, gamma = ctx.saved_tensors
        grad_x = (grad * gamma).to(torch.bfloat16) @ code
        grad_w = (grad * step).to(torch.bfloat16).flatten(0, -2).t() @ x_code.flatten(0, -2)
        return (grad_x.float(), *grad_w.float().split(ctx.rows))


def rms_norm(x, weight, eps):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


class Block(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, ffn = c["hidden_size"], c["intermediate_size"]
        self.heads, self.kv_heads, self.eps = c["num_attention_heads"], c["num_key_value_heads"], c["rms_norm_eps"]
        kv = hidden // self.heads * self.kv_heads
        matrix = lambda rows, columns: torch.nn.Parameter(torch.randn(rows, columns) * c["initializer_range"])
        self.q_proj, self.k_proj, self.v_proj = matrix(hidden, hidden), matrix(kv, hidden), matrix(kv, hidden)
        self.o_proj = matrix(hidden, hidden)
        self.gate_proj, self.up_proj, self.down_proj = matrix(ffn, hidden), matrix(ffn, hidden), matrix(hidden, ffn)
        norm = lambda size, value=1.0: torch.nn.Parameter(torch.full((size,), value))
        self.input_layernorm, self.post_attention_layernorm = norm(hidden), norm(hidden)
        self.attn_sub_norm, self.ffn_sub_norm = norm(hidden), norm(ffn)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        size = hidden // self.heads
        y = BitLinear.apply(rms_norm(x, self.input_layernorm, self.eps), self.q_proj, self.k_proj, self.v_proj)
        y = y.view(batch, length, -1, size).transpose(1, 2)
        rotated = y[:, : self.heads + self.kv_heads]
        half = torch.cat((-rotated[..., size // 2 :], rotated[..., : size // 2]), -1)
        rotated = (rotated * cos + half * sin).to(torch.bfloat16)
        repeat = self.heads // self.kv_heads
        q, k = rotated[:, : self.heads], rotated[:, self.heads :].repeat_interleave(repeat, 1)
        v = y[:, self.heads + self.kv_heads :].to(torch.bfloat16).repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).float()
        y = y.transpose(1, 2).reshape(batch, length, hidden)
        x = x + BitLinear.apply(rms_norm(y, self.attn_sub_norm, self.eps), self.o_proj)
        y = BitLinear.apply(rms_norm(x, self.post_attention_layernorm, self.eps), self.gate_proj, self.up_proj)
        gate, up = y.chunk(2, -1)
        y = rms_norm(gate.relu().square() * up, self.ffn_sub_norm, self.eps)
        return x + BitLinear.apply(y, self.down_proj)


class Model(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = torch.nn.Parameter(torch.randn(c["vocab_size"], c["hidden_size"]) * c["initializer_range"])
        self.layers = torch.nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = torch.nn.Parameter(torch.ones(c["hidden_size"]))
        size = c["hidden_size"] // c["num_attention_heads"]
        rate = c["rope_theta"] ** (-torch.arange(0, size, 2) / size)
        angle = torch.outer(torch.arange(c["max_position_embeddings"]).float(), rate).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, reduction="mean"):
        inputs, targets = ids[:, :-1], ids[:, 1:]
        length = inputs.shape[1]
        x = F.embedding(inputs, self.embed_tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        x = rms_norm(x, self.norm, self.c["rms_norm_eps"]).to(torch.bfloat16)
        logits = F.linear(x, self.embed_tokens.to(torch.bfloat16)).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


# ---------------------------------------------------------------- optimiser


class Muon:
    """Momentum, orthogonalised by Newton-Schulz, for the ternary matrices' latents."""

    def __init__(self, params, momentum=0.95):
        # Matrices of one shape go through Newton-Schulz as one batch.
        self.groups, self.momentum = {}, momentum
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.buffers = {shape: torch.zeros(len(g), *shape) for shape, g in self.groups.items()}

    @torch.no_grad()
    def step(self, lr, decay):
        for shape, group in self.groups.items():
            grad, buffer = torch.stack([p.grad for p in group]), self.buffers[shape]
            buffer.lerp_(grad, 1 - self.momentum)
            update = self.orthogonal(grad.lerp(buffer, self.momentum))
            scale = 0.2 * math.sqrt(max(shape))  # update RMS as AdamW's
            for p, u in zip(group, update):
                p.mul_(1 - lr * decay).add_(u.float(), alpha=-lr * scale)

    @staticmethod
    def orthogonal(x, rounds=5):
        wide = x.shape[-2] <= x.shape[-1]
        x = (x if wide else x.mT).to(torch.bfloat16)
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(rounds):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
        return x if wide else x.mT


def rate_factor(step, done, warmup_steps=100):
    """Warm-up by steps (the first one compiles), then straight down to zero by the share of the schedule."""
    return min(1.0, (step + 1) / warmup_steps) * max(0.0, 1 - done)


# ---------------------------------------------------------------- export


def pack(codes):
    """[out, in] of -1/0/1 -> [out/4, in]: bits 2i..2i+1 of row r hold row r + i*out/4."""
    quarters = (codes + 1).to(torch.uint8).chunk(4)
    return quarters[0] | quarters[1] << 2 | quarters[2] << 4 | quarters[3] << 6


def export(model, tokenizer, out):
    tensors = {
        "model.embed_tokens.weight": model.embed_tokens.detach().to(torch.bfloat16),
        "model.norm.weight": model.norm.detach().to(torch.bfloat16),
    }
    for index, layer in enumerate(model.layers):
        for name, p in layer.named_parameters():
            part = {"q": "self_attn.", "k": "self_attn.", "v": "self_attn.", "o": "self_attn.", "a": "self_attn."}
            place = "" if "layernorm" in name else part.get(name[0], "mlp.")
            full = f"model.layers.{index}.{place}{name}"
            if p.dim() == 1:
                tensors[f"{full}.weight"] = p.detach().to(torch.bfloat16)
                continue
            gamma = p.detach().double().abs().mean().clamp(min=1e-5)
            codes = (p.detach() / gamma.float()).round().clamp(-1, 1).to(torch.int8)
            tensors[f"{full}.weight"] = pack(codes).contiguous()
            tensors[f"{full}.weight_scale"] = gamma.reshape(1).to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(out / "model.safetensors.tmp"), metadata={"format": "pt"})
    os.replace(out / "model.safetensors.tmp", out / "model.safetensors")

    bos, eos, eot = (tokenizer.token_to_id(token) for token in SPECIAL[:3])
    config = {**CONFIG, "bos_token_id": bos, "eos_token_id": eos}
    special = lambda content: {
        "content": content,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }
    files = {
        "config.json": config,
        "generation_config.json": {
            "bos_token_id": bos,
            "do_sample": True,
            "eos_token_id": [eos, eot],
            "max_length": CONFIG["max_position_embeddings"],
            "temperature": 0.7,
            "top_p": 0.9,
        },
        "special_tokens_map.json": {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[1]},
        "tokenizer_config.json": {
            "added_tokens_decoder": {str(tokenizer.token_to_id(t)): special(t) for t in SPECIAL},
            "bos_token": SPECIAL[0],
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": SPECIAL[1],
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": CONFIG["max_position_embeddings"],
            "pad_token": SPECIAL[1],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)


# ---------------------------------------------------------------- training


@torch.no_grad()
def validation_bits_per_byte(model, data, context=512):
    """The perplexity protocol on the held-back ends of the training novels."""
    nll = 0.0
    for at in range(0, len(data.valid), context - 1):
        window = np.append(data.bos, data.valid[at : at + context - 1])
        nll += model(torch.from_numpy(window)[None], reduction="sum").item()
    return nll / math.log(2) / data.valid_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, help="wall clock of the whole schedule, pauses included")
    parser.add_argument("--steps", type=int, help="length of the schedule in steps instead")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per step")
    parser.add_argument("--muon-lr", type=float, default=5e-3)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay of the latents, first half only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile (needs no C++ compiler)")
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export-only", action="store_true")
    args = parser.parse_args()
    if not (args.minutes or args.steps or args.export_only):
        parser.error("give --minutes or --steps")
    if args.tokens % LENGTHS[-1][1]:
        parser.error(f"--tokens must be a multiple of {LENGTHS[-1][1]}, the longest sequence")
    if args.pid_file:
        args.pid_file.write_text(f"{os.getpid()}\n")
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)

    novels = [corpus.austen(title) for title in corpus.AUSTEN if title != corpus.HELD_OUT]
    scripture = wrapped_bible()
    args.out.mkdir(parents=True, exist_ok=True)
    # Austen twice: the tokenizer is hers first, the Bible's second.
    tokenizer = train_tokenizer([*novels, *novels, scripture], CONFIG["vocab_size"])
    model = Model(CONFIG)
    data = Data(tokenizer, novels, scripture)
    matrices = [p for layer in model.layers for p in layer.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(
        [model.embed_tokens, *vectors],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    step, spent, state_path = 0, 0.0, args.out / "state.pt"
    if args.resume or args.export_only:
        state = torch.load(state_path)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        muon.buffers, step, spent = state["muon"], state["step"], state["spent"]
        data.rng.bit_generator.state = state["rng"]
    if args.export_only:
        export(model, tokenizer, args.out)
        return
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {sum(p.numel() for p in matrices):,} ternary;"
        f" tokens: novels {len(data.novels):,}, scripture {len(data.scripture):,}, validation {len(data.valid):,}",
        flush=True,
    )
    run = model if args.no_compile else torch.compile(model, dynamic=False)
    export(model, tokenizer, args.out)
    log_path = args.out / "loss.csv"
    if step == 0:
        log_path.write_text("step,tokens,minutes,learning_rate,train_nats_per_token,validation_bits_per_byte\n")
    begin, saved, mean_loss, valid = time.time() - spent, time.time(), None, ""

    def save():
        state = dict(model=model.state_dict(), adam=adam.state_dict(), muon=muon.buffers, step=step,
                     spent=time.time() - begin, rng=data.rng.bit_generator.state)
        torch.save(state, f"{state_path}.tmp")
        os.replace(f"{state_path}.tmp", state_path)
        export(model, tokenizer, args.out)

    while True:
        done = step / args.steps if args.steps else (time.time() - begin) / (60 * args.minutes)
        if done >= 1:
            break
        length = next(size for until, size in LENGTHS if done < until)
        # The Bible teaches grammar early; the end belongs to Austen.
        ids = data.batch(args.tokens // length, length, scripture_share=0.45 * max(0.0, 1 - done / 0.8))
        loss = run(ids)
        loss.backward()
        rate = rate_factor(step, done)
        muon.step(rate * args.muon_lr, args.decay if done < 0.5 else 0.0)
        for group in adam.param_groups:
            group["lr"] = rate * args.adam_lr
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        mean_loss = loss.item() if mean_loss is None else 0.95 * mean_loss + 0.05 * loss.item()
        if step % 250 == 0:
            valid = validation_bits_per_byte(model, data)
        if step % 25 == 0:
            minutes = (time.time() - begin) / 60
            row = [step, step * args.tokens, f"{minutes:.2f}", f"{rate:.4f}", f"{mean_loss:.4f}"]
            row.append(valid and f"{valid:.4f}")
            with log_path.open("a") as log:
                csv.writer(log, lineterminator="\n").writerow(row)
            print(f"{100 * done:5.1f}% length {length}", *row, flush=True)
            valid = ""
        if time.time() - saved > 240:
            save()
            saved = time.time()
    save()
    draw_loss.draw(log_path, args.out / "loss.svg")
    print(f"validation {validation_bits_per_byte(model, data, 1024):.4f} bits/byte at context 1024", flush=True)


if __name__ == "__main__":
    main()
