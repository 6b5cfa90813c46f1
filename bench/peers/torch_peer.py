"""PyTorch as a peer of the bench: does the tasks that it is asked to, and times them."""

import torch
import torch.nn.functional as F

from torch_places import place, serve, timed_ms, version


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


run = None


def answer(question, floats):
    global run
    if "hello" in question:
        return {"version": version(), "cuda": torch.cuda.is_available()}
    if "task" in question:
        run = prepare(question["task"], [values.to(**place(question)) for values in floats])
        result = run()
        return {"squares": result.double().square().sum().item(), "count": result.numel()}
    return {"ms": timed_ms(run, question["runs"])}


serve(answer)
