/**
 * Who may talk to the server: pages of its own origin, by addresses of its own, and beyond
 * loopback only those with the token.
 *
 * @module
 */

import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { Context, MiddlewareHandler } from "hono";
import { timingSafeEqual } from "hono/utils/buffer";

/** Options of {@linkcode guard}. */
export interface GuardOptions {
  /** The address that the server listens on. */
  readonly hostname: string;
  /** Required of every request, if given. */
  readonly token?: string;
}

const cookieName = "bluerose_studio";

/** Names and addresses of this machine for itself. */
const loopback = ["127.0.0.1", "localhost", "[::1]"];

/** What a page of this server may load and do. */
const contentSecurityPolicy = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "worker-src 'self'",
  "connect-src 'self'",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const securityHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": contentSecurityPolicy,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

/**
 * Refuses requests
 * - whose Host is no address of the server: a name of somebody else's may be bound to it (DNS
 *   rebinding);
 * - that another origin's page makes;
 * - without the token, where one is required. The address with `?token=` turns it into a cookie.
 */
export function guard({ hostname, token }: GuardOptions): MiddlewareHandler {
  return async (c, next) => {
    const refusal = await refusalOf(c, { hostname, token });
    if (refusal) c.res = refusal;
    else await next();
    for (const [name, value] of Object.entries(securityHeaders)) c.res.headers.set(name, value);
  };
}

async function refusalOf(c: Context, { hostname, token }: GuardOptions): Promise<Response | undefined> {
  const host = c.req.header("host") ?? "";
  if (!isOwnHost(host, hostname)) {
    return c.text(`Cannot answer for the host ${JSON.stringify(host)}: open the address that the server printed`, 403);
  }
  const origin = c.req.header("origin");
  const site = c.req.header("sec-fetch-site");
  const isForeign = origin !== undefined && origin !== `http://${host}` ||
    c.req.method !== "GET" && site !== undefined && site !== "same-origin";
  if (isForeign) return c.text("Cannot answer pages of another origin", 403);
  if (token === undefined) return undefined;
  const given = c.req.query("token");
  if (given !== undefined && c.req.method === "GET") {
    if (!await timingSafeEqual(given, token)) return unauthorized(c);
    setCookie(c, cookieName, token, { httpOnly: true, sameSite: "Strict", path: "/" });
    return c.redirect("/"); // the token leaves the address bar
  }
  const known = getCookie(c, cookieName) ?? /^Bearer (.+)$/.exec(c.req.header("authorization") ?? "")?.[1];
  if (known !== undefined && await timingSafeEqual(known, token)) return undefined;
  deleteCookie(c, cookieName);
  return unauthorized(c);
}

function unauthorized(c: Context): Response {
  return c.text("Cannot answer without the token: open the address that bluerose studio printed, token included", 401);
}

/** Whether a Host header names the server: by the address that it listens on, or an address. */
function isOwnHost(host: string, hostname: string): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[^:]+)(:\d{1,5})?$/i.exec(host);
  if (match === null) return false;
  const name = match[1].toLowerCase();
  if (loopback.includes(name) || name === hostname.toLowerCase() || name === `[${hostname.toLowerCase()}]`) return true;
  // On all interfaces, every address may be the server's. Only names can be bound by others.
  const isEverywhere = hostname === "0.0.0.0" || hostname === "::";
  return isEverywhere && (/^\d{1,3}(\.\d{1,3}){3}$/.test(name) || name.startsWith("["));
}
