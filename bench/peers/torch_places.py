"""What the bench's PyTorch scripts share: devices, precisions and clocks."""

import time

import protocol
import torch

torch.set_grad_enabled(False)
# f32 is to mean f32 on GPUs, too.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True

DTYPES = {"f32": torch.float32, "f16": torch.float16}


def version():
    return torch.__version__.split("+")[0]


def place(question):
    """The device and dtype that a question asks for."""
    return {"device": question.get("device", "cpu"), "dtype": DTYPES[question.get("dtype", "f32")]}


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed_ms(run, count=1):
    """How long it takes to run something so many times, until the device is done."""
    wait()
    started = time.perf_counter()
    for _ in range(count):
        run()
    wait()
    return 1e3 * (time.perf_counter() - started)


def serve(answer):
    """Answers questions, with the numbers behind them as tensors."""
    protocol.serve(answer, lambda data: torch.frombuffer(bytearray(data), dtype=torch.float32))
