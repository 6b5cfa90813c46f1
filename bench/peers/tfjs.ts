import { importPackage, type Peer, type PeerWork } from "./peer.ts";
import { operands, operandShapes, type PeerTask } from "../cases/task.ts";
import { recordedWork } from "../measure/timing.ts";

const version = "4.22.0";

interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

/** tfjs-core with its WebGPU backend, on its own device from the same adapter. */
export async function openTfjs({ waitMs }: { waitMs: number }): Promise<Peer> {
  const tf = await importPackage(`npm:@tensorflow/tfjs-core@${version}`);
  await importPackage(`npm:@tensorflow/tfjs-backend-webgpu@${version}`);
  if (!await tf.setBackend("webgpu")) throw new Error("its WebGPU backend did not start");
  const backend = tf.backend();
  const device: GPUDevice = backend.device;
  let failure: string | undefined;
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    failure ??= (event as GPUUncapturedErrorEvent).error.message;
  });
  const throwFailure = () => {
    const message = failure;
    failure = undefined;
    if (message !== undefined) throw new Error(message);
  };
  const wait = async () => {
    // tfjs collects dispatches in an open pass until a result is read.
    backend.ensureCommandEncoderReady();
    backend.endComputePassEncoder();
    backend.submitQueue();
    await device.queue.onSubmittedWorkDone();
    throwFailure();
  };
  return {
    name: `tfjs ${version}`,
    prepare(task): Promise<PeerWork> {
      const shapes = operandShapes(task);
      const tensors = operands(task).map((values, i) => tf.tensor(values, shapes[i])).map((tensor, i) =>
        arranged(tf, tensor, task, i)
      );
      const run = runOf(tf, task, tensors);
      return Promise.resolve({
        ...recordedWork(() => run().dispose(), wait, { waitMs }),
        async result() {
          const result = run();
          const data = await result.data();
          result.dispose();
          throwFailure();
          return data;
        },
        [Symbol.dispose]: () => tensors.forEach((tensor) => tensor.dispose()),
      });
    },
    [Symbol.dispose]: () => tf.removeBackend("webgpu"),
  };
}

/** Operands in the layout that tfjs likes best: pictures with channels last, heads as a batch. */
// deno-lint-ignore no-explicit-any
function arranged(tf: any, tensor: any, task: PeerTask, index: number): any {
  const move = (make: () => TfTensor) => {
    const moved = tf.tidy(make);
    tensor.dispose();
    return moved;
  };
  if (task.op === "conv2d") return move(() => tf.transpose(tensor, index === 0 ? [0, 2, 3, 1] : [2, 3, 1, 0]));
  if (task.op === "attention") {
    const { batch, heads, dim } = task, length = index === 0 ? task.t : task.s;
    return move(() =>
      tf.reshape(tf.transpose(tf.reshape(tensor, [batch, length, heads, dim]), [0, 2, 1, 3]), [
        batch * heads,
        length,
        dim,
      ])
    );
  }
  return tensor;
}

// deno-lint-ignore no-explicit-any
function runOf(tf: any, task: PeerTask, [a, b, c]: readonly any[]): () => TfTensor {
  switch (task.op) {
    case "matmul":
      return () => tf.matMul(a, b, false, task.transposeB);
    case "conv2d":
      return () => tf.conv2d(a, b, task.stride, task.kernel >> 1, "NHWC", [1, 1], "floor");
    case "attention": // it has no attention of its own
      return () =>
        tf.tidy(() => tf.matMul(tf.softmax(tf.mul(tf.matMul(a, b, false, true), 1 / Math.sqrt(task.dim))), c));
  }
}
