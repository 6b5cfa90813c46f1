"""TIME's edit of 32 projection matrices in PyTorch, in the way of the paper's equation 5, one matrix after the other.

    W' = (lambda W + sum v c^T) (lambda I + sum c c^T)^-1,   v = W d

Nothing is shared between matrices, and the inverse is taken anew for each. Two forms: sums of outer products token by token, as the equation reads
and as the authors compute it, and the same sums as matrix products, which is kinder to PyTorch. Always in f32: torch.inverse knows no f16.
"""

import torch

from torch_places import place, serve, timed_ms, version


def edit_by_outer_products(weight, sources, destinations, lamb):
    left = lamb * weight
    right = lamb * torch.eye(weight.shape[1], device=weight.device)
    for source, destination in zip(sources, destinations):
        values = destination @ weight.T  # [tokens, outputs]
        left = left + (values[:, :, None] @ source[:, None, :]).sum(dim=0)
        right = right + (source[:, :, None] @ source[:, None, :]).sum(dim=0)
    return left @ torch.inverse(right)


def edit_by_products(weight, sources, destinations, lamb):
    left = lamb * weight
    right = lamb * torch.eye(weight.shape[1], device=weight.device)
    for source, destination in zip(sources, destinations):
        left = left + (destination @ weight.T).T @ source
        right = right + source.T @ source
    return left @ torch.inverse(right)


def answer(question, floats):
    shape = (question["sentences"], question["tokens"], question["width"])
    sources, destinations = (values.view(shape).to(**place(question)) for values in floats)
    width, lamb = question["width"], question["lamb"]
    torch.manual_seed(0)
    weights = [
        (torch.randn(outputs, width) / width**0.5).to(**place(question))
        for outputs in question["widths"]
        for _ in range(2)
    ]

    def best_ms(edit, rounds):
        def edit_all():
            for weight in weights:
                edit(weight, sources, destinations, lamb)

        return min(timed_ms(edit_all) for _ in range(rounds))

    best_ms(edit_by_products, 1)  # warm-up
    return {
        "version": version(),
        "threads": torch.get_num_threads(),
        "outerMs": best_ms(edit_by_outer_products, 2),
        "productMs": best_ms(edit_by_products, 3),
    }


serve(answer)
