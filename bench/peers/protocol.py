"""The protocol of the bench's Python peers: lines of JSON, with f32 numbers behind a question."""

import json
import sys


def serve(answer, floats_of=bytes):
    """Answers every question on standard input; what fails is told as an error."""
    for line in iter(sys.stdin.buffer.readline, b""):
        question = json.loads(line)
        floats = [floats_of(sys.stdin.buffer.read(4 * count)) for count in question["floats"]]
        try:
            reply = answer(question, floats)
        except Exception as error:  # the bench reports it and goes on
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
