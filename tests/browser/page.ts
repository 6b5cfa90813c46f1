/**
 * The page of the browser tests: draws with the pocket model, and runs the golden tests, with files
 * fetched over HTTP.
 *
 * @module
 */
import { Gpu } from "../../mod.ts";
import { goldenCases, type GoldenPlace } from "../pipeline/golden_suite.ts";
import { drawPocket } from "../pocket_drawing.ts";

const at = (path: string) => new URL(path, location.href);

const place: GoldenPlace = {
  folder: (path) => at(`models/${path}/`),
  goldens: async (name) => new Uint8Array(await (await fetch(at(`goldens/${name}.safetensors`))).arrayBuffer()),
};

let gpu: Promise<Gpu> | undefined;

/** Runs a golden test. @returns what went wrong, if anything did */
async function golden(name: string): Promise<string | undefined> {
  const device = await (gpu ??= Gpu.request());
  try {
    const before = device.memory.live;
    await goldenCases.find((one) => one.name === name)!.run(device, place);
    await device.finished();
    const left = device.memory.live - before;
    return left === 0 ? undefined : `${left} bytes are left live on the device`;
  } catch (error) {
    return String((error as Error).stack ?? error);
  }
}

Object.assign(globalThis, { draw: () => drawPocket(at("models/pocket/")), golden });
