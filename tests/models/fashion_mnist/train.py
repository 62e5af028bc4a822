#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A ternary MLP and a ternary CNN for Fashion-MNIST, trained and exported.

    python tests/models/fashion_mnist/train.py OUT [--epochs N] [--images N]

writes OUT/{mlp,cnn}.{legacy,dynamo}.onnx by both exporters of torch, with a
symbolic batch. Needs `apt-get install dataset-fashion-mnist` and torch.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

DATA = Path("/usr/share/datasets/fashion-mnist")


def read_images(part):
    """uint8 [images, 1, 28, 28] of "train" or "t10k"."""
    data = gzip.decompress((DATA / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 1, 28, 28)


def read_labels(part):
    data = gzip.decompress((DATA / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=8)


def normalise(images):
    return images.astype(np.float32) / 255 * 2 - 1


# The layers of "The Era of 1-bit LLMs: Training Tips, Code and FAQ": a norm,
# activations by their absmax, weights by their absmean, straight-through gradients.


def quantise_activations(x, dims):
    scale = 127.0 / x.abs().amax(dim=dims, keepdim=True).clamp(min=1e-5)
    return (x * scale).round().clamp(-128, 127) / scale


def quantise_weights(w):
    scale = 1.0 / w.abs().mean().clamp(min=1e-5)
    return (w * scale).round().clamp(-1, 1) / scale


def straight_through(x, quantised):
    return x + (quantised - x).detach()


class BitLinear(nn.Linear):
    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        x = straight_through(x, quantise_activations(x, -1))
        w = straight_through(self.weight, quantise_weights(self.weight))
        return F.linear(x, w, self.bias)


class BitConv2d(nn.Conv2d):
    """One activation scale for each image."""

    def forward(self, x):
        x = straight_through(x, quantise_activations(x, (1, 2, 3)))
        w = straight_through(self.weight, quantise_weights(self.weight))
        return self._conv_forward(x, w, self.bias)


def make_mlp():
    return nn.Sequential(
        nn.Flatten(),
        BitLinear(784, 512), nn.ReLU(),
        BitLinear(512, 512), nn.ReLU(),
        BitLinear(512, 10))


def make_cnn():
    return nn.Sequential(
        BitConv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2),
        BitConv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(2),
        BitConv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(),
        BitLinear(64 * 4 * 4, 10))


def train(model, images, labels, epochs, batch=100):
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    steps = epochs * len(images) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(batch):
            loss = F.cross_entropy(model(images[part]), labels[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def measure(model, images, labels):
    model.eval()
    hits = sum((model(x).argmax(-1) == y).sum()
               for x, y in zip(images.split(1000), labels.split(1000)))
    return hits.item() / len(images)


def export(model, path, example):
    model.eval()
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(model, (example,), f"{path}.legacy.onnx", dynamo=False,
                      opset_version=17,
                      dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
                      **names)
    torch.onnx.export(model, (example,), f"{path}.dynamo.onnx", dynamo=True,
                      external_data=False, verbose=False,
                      dynamic_shapes=({0: torch.export.Dim("batch")},), **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=60000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    parts = [(torch.from_numpy(normalise(read_images(part))),
              torch.from_numpy(read_labels(part).astype(np.int64)))
             for part in ("train", "t10k")]
    for name, make in (("mlp", make_mlp), ("cnn", make_cnn)):
        model = make()
        images, labels = (part[:options.images] for part in parts[0])
        train(model, images, labels, options.epochs)
        print(f"{name}: accuracy {measure(model, *parts[1]):.4f}", flush=True)
        export(model, options.out / name, parts[1][0][:2])


if __name__ == "__main__":
    main()
