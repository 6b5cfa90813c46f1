/** What a process printed, and how it ended. */
export interface DenoRun {
  readonly success: boolean;
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly out: string;
  readonly err: string;
}

/** Runs Deno in a process of its own until it ends. It prints no colors. */
export async function runDeno(
  args: readonly string[],
  { env, ...options }: Pick<Deno.CommandOptions, "cwd" | "env" | "clearEnv"> = {},
): Promise<DenoRun> {
  const command = new Deno.Command(Deno.execPath(), { ...options, args: [...args], env: { ...env, NO_COLOR: "1" } });
  const { success, code, signal, stdout, stderr } = await command.output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { success, code, signal, out, err };
}
