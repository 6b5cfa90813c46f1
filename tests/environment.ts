/**
 * Runs `body` with these environment variables; undefined leaves one unset. Only code of this test
 * file sees them, by `Deno.env.get()`: files of tests that run at the same time share the process's
 * own variables, so tests do not set those. Processes that `body` starts do not inherit them.
 */
export async function withEnvironment(
  variables: Readonly<Record<string, string | undefined>>,
  body: () => unknown,
): Promise<void> {
  const { get } = Deno.env;
  Deno.env.get = (name) => Object.hasOwn(variables, name) ? variables[name] : get.call(Deno.env, name);
  try {
    await body();
  } finally {
    Deno.env.get = get;
  }
}
