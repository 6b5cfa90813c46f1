import { assert, assertEquals } from "@std/assert";
import { failureText } from "../../cli/failure.ts";
import { inFlags } from "../../cli/option_flags.ts";
import { jsonText } from "../../cli/printer.ts";
import { CheckpointError } from "../../pipeline/errors.ts";
import { hideSecrets, printable, wrap } from "../../cli/terminal.ts";
import { escapeControls } from "../../pipeline/safe_text.ts";

Deno.test("control characters of strangers' texts are shown as escapes; newlines and tabs stay", () => {
  assertEquals(
    escapeControls("a\x1b[31mred\x1b[0m\r\n\tb\x00\x07\x7f"),
    "a\\x1b[31mred\\x1b[0m\\x0d\n\tb\\x00\\x07\\x7f",
  );
  assertEquals(escapeControls("\x9b31m\u202egnp.exe\u2066"), "\\x9b31m\\u202egnp.exe\\u2066");
  assertEquals(escapeControls("a rose, バラ, λ → 🌹"), "a rose, バラ, λ → 🌹");
  for (let code = 0; code < 0x100; code++) {
    const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0);
    const stays = !isControl || code === 9 || code === 10;
    assertEquals(escapeControls(String.fromCharCode(code)) === String.fromCharCode(code), stays, String(code));
  }
});

Deno.test("JSON carries the same values, with nothing in it that a terminal would obey", () => {
  const value = { text: "\x1b[2J\x9b1m\u202ex\x7f", list: ["\n"] };
  const json = jsonText(value);
  assertEquals(JSON.parse(json), value);
  // deno-lint-ignore no-control-regex
  assert(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/.test(json), json);
});

Deno.test("integers that JSON's readers would round are texts", () => {
  assertEquals(JSON.parse(jsonText([7n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n])), [
    7,
    2 ** 53 - 1,
    "9007199254740992",
    "18446744073709551615",
  ]);
});

Deno.test("users, passwords and tokens of URLs are hidden, in malformed ones too", () => {
  const secrets = [
    "https://user:s3cret@host/x",
    "https://s3cret@host/x",
    "https://user:s3c@s3cret@host/x",
    "https:/user:s3cret@host",
    "HTTPS://user:s3cret@host:99999/%zz",
    "https://user:s3/cret?s3cret@host/x",
    "https://host/x?token=s3cret&y=1",
    "https://host/x?X-Amz-Signature=s3cret",
    "https://host/x?api_key=s3cret#a",
    "Authorization: Bearer s3cretToken.x",
    "hf_s3cretABCDEF",
    "http://s3cret:@[::1",
  ];
  for (const text of secrets) {
    const hidden = hideSecrets(`Cannot open "${text}" as it is gone`);
    assert(!hidden.includes("s3cret") && hidden.includes("***"), hidden);
    const error = new CheckpointError(`Cannot open "${text}"`, { source: text });
    assert(!error.message.includes("s3cret") && !error.source.includes("s3cret"), error.message);
    assert(hidden.startsWith("Cannot open ") && hidden.endsWith("as it is gone"), hidden);
  }
  for (
    const text of ["https://huggingface.co/a/b?x=1", "a rose @ noon", "a/b@main", "user@host", "x: token of a rose"]
  ) {
    assertEquals(hideSecrets(text), text);
  }
  assertEquals(printable("https://a:b@c\x1b"), "https://***@c\\x1b");
});

Deno.test("messages advise flags, not the library's options", () => {
  const cases: [message: string, shown: string][] = [
    ["Cannot skip 99 layers: clipSkip must be a whole number", "--clip-skip must be"],
    ["no folder of LoRAs is given: set loraDir", "give --lora-dir"],
    ["numImagesPerPrompt must be a whole number", "--batch-count must be"],
    ["a lambda and a guidance", "a lambda and a guidance"],
  ];
  for (const [message, shown] of cases) assert(inFlags(message).includes(shown), inFlags(message));
});

Deno.test("a user's error is its message; an unexpected one is a short report without a stack", () => {
  const typed = Object.assign(new Error("Cannot load x"), { name: "CheckpointError" });
  assertEquals(failureText(typed, "bluerose generate"), "CheckpointError: Cannot load x");
  assertEquals(failureText(new RangeError("Cannot skip 9 layers"), "bluerose generate"), "Cannot skip 9 layers");
  for (
    const fault of [
      new TypeError("Cannot read properties of undefined (reading 'x')"),
      new Error("boom"),
      new SyntaxError("Unexpected token"),
      new ReferenceError("Cannot access 'x' before initialization"),
    ]
  ) {
    const text = failureText(fault, "bluerose generate");
    assert(text.startsWith(`Unexpected error: ${fault.name}: ${fault.message}\n`), text);
    for (const part of ["Please report it", "version   bluerose ", "Deno ", "device    ", "place     "]) {
      assert(text.includes(part), text);
    }
    assert(!/\n\s+at /.test(text), text);
  }
});

Deno.test("a missing permission of Deno is named with its purpose, wherever it is in the chain of causes", () => {
  const cause = new Deno.errors.NotCapable(
    'Requires net access to "huggingface.co:443", run again with the --allow-net flag',
  );
  const wrapped = Object.assign(new Error("Cannot open a/b", { cause }), { name: "HubError" });
  for (const error of [cause, wrapped]) {
    const text = failureText(error, "bluerose generate");
    for (const part of ['"net"', "huggingface.co:443", "--allow-net", "to download models"]) {
      assert(text.includes(part), text);
    }
  }
});

Deno.test("wrap() breaks between words only and keeps newlines", () => {
  assertEquals(wrap("a rose is a rose\nthat is all", 9), ["a rose is", "a rose", "that is", "all"]);
  assertEquals(wrap("unbreakable", 4), ["unbreakable"]);
  assertEquals(wrap("", 9), [""]);
});
