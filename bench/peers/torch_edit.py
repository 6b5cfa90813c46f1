"""TIME's edit of 32 projection matrices in PyTorch on the CPU, in the way of the paper's equation 5, one matrix after the other.

    W' = (lambda W + sum v c^T) (lambda I + sum c c^T)^-1,   v = W d

Nothing is shared between matrices, and the inverse is taken anew for each. Two forms: sums of outer products token by token, as the equation reads
and as the authors compute it, and the same sums as matrix products, which is kinder to PyTorch.
"""

import json
import sys
import time

import torch

torch.set_grad_enabled(False)


def read_floats(count):
    return torch.frombuffer(bytearray(sys.stdin.buffer.read(4 * count)), dtype=torch.float32)


def edit_by_outer_products(weight, sources, destinations, lamb):
    left = lamb * weight
    right = lamb * torch.eye(weight.shape[1])
    for source, destination in zip(sources, destinations):
        values = destination @ weight.T  # [tokens, outputs]
        left = left + (values[:, :, None] @ source[:, None, :]).sum(dim=0)
        right = right + (source[:, :, None] @ source[:, None, :]).sum(dim=0)
    return left @ torch.inverse(right)


def edit_by_products(weight, sources, destinations, lamb):
    left = lamb * weight
    right = lamb * torch.eye(weight.shape[1])
    for source, destination in zip(sources, destinations):
        left = left + (destination @ weight.T).T @ source
        right = right + source.T @ source
    return left @ torch.inverse(right)


def main():
    question = json.loads(sys.stdin.buffer.readline())
    shape = (question["sentences"], question["tokens"], question["width"])
    sources, destinations = (read_floats(count).view(shape) for count in question["floats"])
    width, lamb = question["width"], question["lamb"]
    torch.manual_seed(0)
    weights = [torch.randn(outputs, width) / width**0.5 for outputs in question["widths"] for _ in range(2)]

    def timed(edit, rounds):
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            for weight in weights:
                edit(weight, sources, destinations, lamb)
            times.append(1e3 * (time.perf_counter() - started))
        return min(times)

    timed(edit_by_products, 1)  # warm-up
    print(json.dumps({
        "version": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "outerMs": timed(edit_by_outer_products, 2),
        "productMs": timed(edit_by_products, 3),
    }), flush=True)


try:
    main()
except Exception as error:  # the bench reports it
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
