"""PyTorch on the CPU as a peer of the bench: reads tasks as lines of JSON (with their operands' floats behind them) and times them."""

import json
import sys
import time

import torch
import torch.nn.functional as F

torch.set_grad_enabled(False)


def read_floats(count):
    data = bytearray(sys.stdin.buffer.read(4 * count))
    return torch.frombuffer(data, dtype=torch.float32)


def prepare(task, floats):
    """A function that does the task once, as one would write it in PyTorch."""
    op = task["op"]
    if op == "matmul":
        a = floats[0].view(task["m"], task["k"])
        if task["transposeB"]:
            weight = floats[1].view(task["n"], task["k"])
            return lambda: F.linear(a, weight)
        b = floats[1].view(task["k"], task["n"])
        return lambda: a @ b
    if op == "conv2d":
        x = floats[0].view(task["batch"], task["inChannels"], task["side"], task["side"])
        weight = floats[1].view(task["outChannels"], task["inChannels"], task["kernel"], task["kernel"])
        return lambda: F.conv2d(x, weight, stride=task["stride"], padding=task["kernel"] // 2)
    if op == "attention":
        def heads(values, length):
            return values.view(task["batch"], length, task["heads"], task["dim"]).transpose(1, 2).contiguous()

        q, k, v = heads(floats[0], task["t"]), heads(floats[1], task["s"]), heads(floats[2], task["s"])
        return lambda: F.scaled_dot_product_attention(q, k, v)
    raise ValueError(f"no such task: {op}")


def answer(**fields):
    print(json.dumps(fields), flush=True)


run = None
for line in iter(sys.stdin.buffer.readline, b""):
    question = json.loads(line)
    try:
        floats = [read_floats(count) for count in question["floats"]]
        if "hello" in question:
            answer(version=torch.__version__.split("+")[0], threads=torch.get_num_threads())
        elif "task" in question:
            run = prepare(question["task"], floats)
            result = run()
            answer(squares=result.double().square().sum().item(), count=result.numel())
        else:
            started = time.perf_counter()
            for _ in range(question["runs"]):
                run()
            answer(ms=1e3 * (time.perf_counter() - started))
    except Exception as error:  # the bench reports it and goes on
        answer(error=f"{type(error).__name__}: {error}")
