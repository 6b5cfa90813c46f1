/**
 * The value of an optional environment variable; undefined where it is unset, empty, or where the
 * process may not read it. Never prompts for permission.
 */
export function environmentVariable(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) || undefined : undefined;
}
