/** Chromium's software Vulkan driver, where Debian's package puts it. */
const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * Dawn, the WebGPU of Chromium, as `npm:webgpu` brings it to Deno; or what it lacks here. It runs
 * on the machine's GPU, or else on SwiftShader, which Debian's package `chromium` brings: Dawn
 * refuses older versions of Mesa's lavapipe.
 */
export async function findDawn(): Promise<{ gpu?: GPU; missing?: string }> {
  // Not in deno.json, and --no-lock in the task: Deno brings all packages that deno.lock names, and
  // this one is 130 MB.
  const name = "npm:webgpu@0.6.2";
  let create: (options: string[]) => GPU;
  try {
    ({ create } = await import(name));
  } catch (error) {
    return { missing: `npm:webgpu does not load (${(error as Error).message})` };
  }
  pollSlowly();
  const tryAgain = async () => {
    const gpu = create(["enable-dawn-features=allow_unsafe_apis"]);
    return await gpu.requestAdapter() ? gpu : undefined;
  };
  let gpu = await tryAgain();
  if (!gpu && await Deno.stat(swiftShader).then(() => true, () => false)) {
    Deno.env.set("VK_ICD_FILENAMES", swiftShader);
    gpu = await tryAgain();
  }
  return gpu ? { gpu } : { missing: "Dawn finds no adapter, and no SwiftShader is there (apt-get install chromium)" };
}

/**
 * Dawn polls for finished work in every turn of the event loop, by setImmediate, and each time
 * leaves an object that Deno finds again by searching a list of all of them when it is collected:
 * after a wait of seconds (for a driver's compiler) that takes minutes. A millisecond a turn will
 * do.
 */
function pollSlowly(): void {
  const poll = (turn: (...values: unknown[]) => void, ...values: unknown[]) => setTimeout(turn, 1, ...values);
  Object.assign(globalThis, { setImmediate: poll });
}
