import { operands, operandShapes, type PeerTask } from "../cases/task.ts";
import { hostWork } from "../measure/timing.ts";
import { inputsOf, onnxModel, operandNames } from "./onnx_model.ts";
import { importPackage, type Peer, type PeerWork, threadsAtRest } from "./peer.ts";

const version = "1.30.0";

/** Where ONNX Runtime computes. */
type Provider = "webgpu" | "cpu";

const providerNames: Readonly<Record<Provider, string>> = { webgpu: "WebGPU", cpu: "CPU" };

/** What is used of an InferenceSession. */
interface Session {
  run(feeds: Readonly<Record<string, unknown>>): Promise<{ readonly y: { readonly data: Float32Array } }>;
  release(): Promise<void>;
}

/**
 * ONNX Runtime with its WebGPU execution provider, which is built on Dawn and brings its own
 * device, or its CPU provider. A run takes operands from host memory and returns the result there,
 * and its time includes both copies: the package for Node offers nothing else. Weights stay on the
 * device.
 *
 * @throws {Error} when the provider does not start, as WebGPU on Mesa's lavapipe before version 24
 */
export async function openOnnx(provider: Provider): Promise<Peer> {
  const { default: runtime } = await importPackage(`npm:onnxruntime-node@${version}`);
  const open = (model: Uint8Array): Promise<Session> =>
    runtime.InferenceSession.create(model, {
      executionProviders: [provider],
      logSeverityLevel: 4,
      // An operation that the provider lacks is an error, and not computed elsewhere.
      ...(provider === "cpu" ? {} : { extra: { session: { disable_cpu_ep_fallback: "1" } } }),
    });
  const probe: PeerTask = { op: "matmul", m: 4, k: 4, n: 4, transposeB: false };
  await open(await onnxModel(probe, operands(probe))).then((session) => session.release(), (cause) => {
    if (!/adapter/i.test(`${cause}`)) throw cause;
    throw new Error("its Dawn finds no adapter that it can use; of Mesa's lavapipe it needs version 24 or newer", {
      cause,
    });
  });
  return {
    name: `ONNX Runtime ${version} ${providerNames[provider]}`,
    async prepare(task): Promise<PeerWork> {
      const values = operands(task), shapes = operandShapes(task);
      const session = await open(await onnxModel(task, values));
      const feeds = Object.fromEntries(
        shapes.slice(0, inputsOf(task)).map((shape, i) => [
          operandNames[i],
          new runtime.Tensor("float32", values[i], shape),
        ]),
      );
      const work = hostWork(async () => void await session.run(feeds));
      return {
        async sample(count) {
          const sample = await work.sample(count);
          if (provider === "cpu") await threadsAtRest();
          return sample;
        },
        result: async () => (await session.run(feeds)).y.data,
        [Symbol.dispose]: () => void session.release(),
      };
    },
    [Symbol.dispose]() {},
  };
}
