#!/usr/bin/env python3
"""The training step of training_bench in plain PyTorch: the same models, made-up samples, types and optimizer,
one rank, as a good training loop of one's own would have it. run.sh runs both in turn.

  pytorch_bench.py [--json FILE] [--cpu]
"""

import argparse
import json
import math
import statistics
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    print("SKIPPED pytorch_bench: there is no PyTorch for this Python")
    sys.exit(77)

WARM_UP, MEASURED = 5, 20


def convolution(inputs, outputs, stride):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                            nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.conv1, self.bn1 = convolution(3, width, 1), nn.BatchNorm2d(width)
        stages, inputs = [], width
        for stage in range(4):
            outputs = width << stage
            stages += [Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1)]
            inputs = outputs
        self.stages, self.fc = nn.Sequential(*stages), nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.stages(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class GptBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, x):
        samples, tokens, width = x.shape
        q, k, v = self.qkv(x).view(samples, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.full((tokens, tokens), -math.inf, device=x.device).triu(1)
            mixed = ((q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + mask).softmax(-1).to(v.dtype) @ v
        return self.projection(mixed.transpose(1, 2).reshape(samples, tokens, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(GptBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def workloads(on_gpu):
    """Name, network, samples of a step, inputs, targets; the sizes are those of training_bench."""
    samples = 256 if on_gpu else 8
    yield "resnet18", ResNet18(), samples, torch.randn(samples, 3, 32, 32), torch.randint(10, (samples,))
    samples, layers, heads, width, context = (32, 8, 8, 512, 512) if on_gpu else (8, 2, 4, 128, 64)
    ids = torch.randint(256, (samples, context))
    yield "gpt", Gpt(layers, heads, width, context, 256), samples, ids, torch.randint(256, (samples, context))


def step_ms(network, inputs, targets, device, dtype):
    network = network.to(device)
    inputs, targets = inputs.to(device), targets.to(device)
    if inputs.dim() == 4:
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
    times = []
    for step in range(WARM_UP + MEASURED):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bf16"):
            scores = network(inputs)
            loss = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))
        loss.backward()
        optimizer.step()
        loss.item()  # told every step, as training_bench does, which also waits for the device
        if step >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--cpu", action="store_true", help="try it without a GPU")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        print("SKIPPED pytorch_bench: PyTorch sees no GPU")
        sys.exit(77)
    device = torch.device("cpu" if arguments.cpu else "cuda")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for name, network, samples, inputs, targets in workloads(not arguments.cpu):
        for dtype in ("f32", "bf16"):
            torch.manual_seed(1)
            ms = step_ms(network, inputs, targets, device, dtype)
            print(f"PyTorch {torch.__version__} {name:10} {samples:8} {dtype:6} {ms:10.2f}")
            if arguments.json:
                row = {"pytorch": name, "samples": samples, "type": dtype, "step_ms": round(ms, 2)}
                with open(arguments.json, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
