import config from "../deno.json" with { type: "json" };

/** The version of this package. */
export const packageVersion: string = config.version;

/** The program, Deno and the system, as error reports name them. */
export function versionLine(): string {
  return `bluerose ${packageVersion}, Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`;
}
