import { processWork, PythonProcess } from "./python_process.ts";
import type { StepPeer } from "./step_peer.ts";

/** Sizes whose step would take longer are skipped. */
const longestStepMs = 60_000;

/**
 * stable-diffusion.cpp on the CPU, from the Python package stable-diffusion-cpp-python. It times
 * its steps itself and tells no predicted noise.
 *
 * @param options.writeFile writes the model as a single file to a path, once the package is found
 * @throws {Error} when the Python lacks the package or the model does not load
 */
export async function openSdCpp(
  file: string,
  { python, writeFile }: { readonly python: string; readonly writeFile: () => Promise<void> },
): Promise<StepPeer> {
  using opened = new DisposableStack();
  const process = opened.use(new PythonProcess(python, "sdcpp_step.py"));
  const { version } = await process.ask({ hello: true }) as { version: string };
  await writeFile();
  await process.ask({ file, threads: navigator.hardwareConcurrency });
  opened.move();
  /** Time per pixel of the size before. */
  let pace: number | undefined;
  return {
    name: `stable-diffusion.cpp (Python package ${version}) CPU`,
    prepare({ pixels }) {
      const expected = (pace ?? 0) * pixels ** 2;
      if (expected > longestStepMs) {
        throw new Error(`skipped at ${pixels}², because a step would take at least ${Math.round(expected / 1000)} s`);
      }
      const work = processWork(process, { side: pixels });
      return Promise.resolve({
        async sample(count) {
          const sample = await work.sample(count);
          pace = sample.ms / count / pixels ** 2;
          return sample;
        },
      });
    },
    [Symbol.dispose]: () => process[Symbol.dispose](),
  };
}
