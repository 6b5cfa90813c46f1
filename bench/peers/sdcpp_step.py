"""A guided step of a single-file model in stable-diffusion.cpp (package stable-diffusion-cpp-python), on the CPU."""

from importlib.metadata import version

from protocol import serve

model = None


def timed_ms(side, count):
    """The time of so many steps. The program tells it by step; prompts and decoding are not part of it."""
    seconds = []

    def note(step, steps, time):
        if step > 0:
            seconds.append(time)

    model.generate_image(
        "a red rose in a blue vase",
        width=side,
        height=side,
        cfg_scale=7.5,
        sample_method="euler",
        sample_steps=count,
        seed=7,
        progress_callback=note,
    )
    if len(seconds) < count:
        raise RuntimeError(f"it told the times of {len(seconds)} of {count} steps")
    return 1e3 * sum(seconds[:count])


def answer(question, _):
    global model
    if "hello" in question:
        return {"version": version("stable-diffusion-cpp-python")}
    if "file" in question:
        from stable_diffusion_cpp import StableDiffusion

        model = StableDiffusion(model_path=question["file"], n_threads=question["threads"], verbose=False)
        return {}
    return {"ms": timed_ms(question["side"], question["runs"])}


serve(answer)
