/**
 * Environment variables (Deno only; none are set elsewhere).
 *
 * @module
 */

/**
 * The value of an optional environment variable; undefined where it is unset, empty, or where the
 * process may not read it. Never prompts for permission.
 */
export function environmentVariable(name: string): string | undefined {
  if (typeof Deno === "undefined") return undefined;
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) || undefined : undefined;
}

/**
 * The user's folder for caches: `XDG_CACHE_HOME`, or `.cache` in `HOME` or `USERPROFILE`.
 *
 * @throws Deno's error where these variables may not be read: the working folder, which they would
 *   be replaced by, is not the user's cache
 */
export function userCacheFolder(): string {
  const cacheHome = environmentVariable("XDG_CACHE_HOME");
  if (cacheHome !== undefined) return cacheHome;
  const home = environmentVariable("HOME") ?? environmentVariable("USERPROFILE");
  return `${home ?? (Deno.env.get("HOME") || ".")}/.cache`; // get() throws where it is denied
}
