/** Environment variables that place the shader caches of drivers in a folder. */
const cachesIn = (folder: string): Readonly<Record<string, string>> => ({
  MESA_SHADER_CACHE_DIR: folder, // llvmpipe, AMD, Intel
  __GL_SHADER_DISK_CACHE_PATH: folder, // NVIDIA
});

/**
 * Runs a command with empty shader caches.
 *
 * @throws {Error} with the command's output when it fails
 */
export async function runCold(
  command: string,
  args: readonly string[],
  options: { cwd?: string } = {},
): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "bluerose-cache-" });
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    env: { ...cachesIn(folder) },
    ...options,
  }).output().finally(() => Deno.remove(folder, { recursive: true }));
  if (!success) {
    throw new Error(`${command} ${args.join(" ")} failed: ${new TextDecoder().decode(stderr).trim().slice(-1000)}`);
  }
  return new TextDecoder().decode(stdout);
}

/** The configuration that declares the permissions of the bench. */
const config = new URL("../../deno.json", import.meta.url).pathname;

/** Runs a script of the bench with empty shader caches. The script prints one line of JSON. */
export async function askColdProcess<T>(script: string, args: readonly string[]): Promise<T> {
  return JSON.parse(
    await runCold(Deno.execPath(), [
      "run",
      "-q",
      "-P=bench",
      "--no-prompt",
      "--no-lock",
      "--config",
      config,
      script,
      ...args,
    ]),
  );
}
