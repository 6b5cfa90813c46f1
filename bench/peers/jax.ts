import { importPackage, type Peer, type PeerWork } from "./peer.ts";
import { operands, operandShapes, type PeerTask } from "../cases/task.ts";

const version = "0.1.25";

/** A jax-js array. Functions consume their arguments unless these are passed as `ref`. */
interface JaxArray {
  readonly ref: JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  data(): Promise<Float32Array>;
  blockUntilReady(): Promise<unknown>;
  dispose(): void;
}

/** jax-js with its `jit` compiler, on its own device from the same adapter. */
export async function openJax({ waitMs }: { waitMs: number }): Promise<Peer> {
  const jax = await importPackage(`npm:@jax-js/jax@${version}`);
  const devices: string[] = await jax.init("webgpu");
  if (!devices.includes("webgpu")) throw new Error(`it found no WebGPU, only ${devices.join(", ")}`);
  jax.defaultDevice("webgpu");
  return {
    name: `jax-js ${version}`,
    prepare(task): Promise<PeerWork> {
      const shapes = operandShapes(task);
      const arrays = operands(task).map((values, i): JaxArray =>
        jax.numpy.array(values).reshape(arranged(task, shapes[i]))
      );
      const compiled: (...args: JaxArray[]) => JaxArray = jax.jit(functionOf(jax, task));
      const run = () => compiled(...arrays.map((array) => array.ref));
      return Promise.resolve({
        // jax-js never computes results that are disposed before submission: keep them until the
        // wait.
        async sample(count) {
          const started = performance.now();
          const results = Array.from({ length: count }, run);
          const hostMs = performance.now() - started;
          await Promise.all(results.map((result) => result.blockUntilReady()));
          const ms = performance.now() - started;
          for (const result of results) result.dispose();
          return { ms: Math.max(ms - waitMs, ms / 100), hostMs };
        },
        result: () => run().data(),
        [Symbol.dispose]: () => arrays.forEach((array) => array.dispose()),
      });
    },
    [Symbol.dispose]() {},
  };
}

function arranged(task: PeerTask, shape: readonly number[]): readonly number[] {
  return task.op === "attention" ? [shape[0], shape[1], task.heads, task.dim] : shape;
}

// deno-lint-ignore no-explicit-any
function functionOf(jax: any, task: PeerTask): (...args: any[]) => JaxArray {
  const { numpy, lax, nn } = jax;
  switch (task.op) {
    case "matmul":
      return task.transposeB ? (a, b) => numpy.matmul(a, numpy.transpose(b)) : (a, b) => numpy.matmul(a, b);
    case "conv2d": {
      const side = task.kernel >> 1, padding = [[side, side], [side, side]];
      return (x, weight) => lax.convGeneralDilated(x, weight, [task.stride, task.stride], padding);
    }
    case "attention":
      return (q, k, v) => nn.dotProductAttention(q, k, v);
  }
}
