/** The ICD file of Chromium's software Vulkan driver in Debian's package. */
const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * Dawn, Chromium's WebGPU implementation, from `npm:webgpu`, or the reason why it is unavailable.
 * It uses the machine's GPU, or SwiftShader from Debian's package `chromium`: Dawn rejects older
 * versions of Mesa's lavapipe.
 */
export async function findDawn(): Promise<{ gpu?: GPU; missing?: string }> {
  // Not in deno.json, and the task uses --no-lock: Deno downloads all packages in deno.lock, and
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
 * Limits Dawn's polling to one poll per millisecond. Dawn polls in every turn of the event loop by
 * setImmediate and leaves an object behind each time. Deno needs minutes to collect the objects of
 * a wait of seconds.
 */
function pollSlowly(): void {
  const poll = (turn: (...values: unknown[]) => void, ...values: unknown[]) => setTimeout(turn, 1, ...values);
  Object.assign(globalThis, { setImmediate: poll });
}
