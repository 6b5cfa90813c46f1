"""Records how transformers' slow CLIPTokenizer encodes difficult texts, with the pocket model's vocabulary.

    python tests/reference/tokenizer.py    # writes tests/reference/tokenizer.json

Made with transformers 4.35.2, without ftfy.
"""

import json
import pathlib
import random
import unicodedata

from transformers import CLIPTokenizer

root = pathlib.Path(__file__).resolve().parents[2]
folder = root / "models/pocket/tokenizer"

texts = [
    "", " ", "a", "A field of roses", "Hello,   World!!", "don't stop, it's we'll've I'M HE'D", "'s 't 'tis ''s", "'ſ 'ſt",
    "3.14159 ½ ² Ⅷ 一二 ٣", "naïve café déjà vu", "e\u0301 e\u0301\u0323 \u1e69", "straße ﬁ İstanbul ŒUVRE ǅ",
    "ΣΊΣΥΦΟΣ ΟΔΟΣ. ΑΣ'Σ Σ", "日本語のテキスト 漢字㐀\uf900\U00020000 한국어 ひらがな", "emoji 😀👍🏽 👩‍👩‍👧 🇩🇪", "tab\tnew\nline\r\nx\x0by\x0cz",
    "zero\u200bwidth soft\u00adhyphen bom\ufeff nbsp\u00a0x em\u2003x line\u2028x para\u2029x nel\u0085x ogham\u1680x ideo\u3000x",
    "nul\0x bell\x07x del\x7fx repl\ufffdx private\ue000x unassigned\U000e0080x", "<|endoftext|> inside", "a<|startoftext|>b",
    "<|EndOfText|> <|STARTOFTEXT|>x", "<|endoftext|", "<|<|endoftext|>|>", " <|endoftext|>  <|endoftext|> ", "<| endoftext |>",
    "@user #tag http://x.y/z?q=1", "snake_case camelCase", "…—“quotes”", "&amp; html &lt;b&gt;", "C++ / C# / F#", "¿Qué? ¡Sí!",
    "word " * 100, "x" * 200, "ÀÉÎÕÜ ﬀ ℵ K Å", "\u0345 \u0345a \u24b6\u24d0", "ᾳ ᾼ ŉ ẞ", "हिन्दी العربية русский текст",
    "a ! b !c! d!", "roses , and . or ? then ! isn 't n't 'm ' x ' y", "\U0001d54f math \U0001d7d8", "ǆ Ǆ ʼn", "a\u0300\u0301\u0302 ̈x",
]

generator = random.Random(0)


def stranger() -> str:
    """A character that Unicode 13 has: later ones are letters to one program and nothing to the other."""
    while True:
        point = generator.choice([generator.randrange(0x250), generator.randrange(0x3100), generator.randrange(0x110000)])
        if 0xD800 <= point < 0xE000 or unicodedata.category(chr(point)) == "Cn":
            continue
        return chr(point)


for _ in range(150):
    texts.append("".join(generator.choice([stranger(), generator.choice("aA sS'.!<|>1")]) for _ in range(generator.randrange(1, 24))))


def answers(tokenizer: CLIPTokenizer, texts: list[str]) -> list[dict]:
    out = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        out.append({
            "text": text,
            "ids": ids,
            "ids77": tokenizer(text, padding="max_length", truncation=True, max_length=77)["input_ids"],
            "tokens": tokenizer.tokenize(text),
            "decoded": tokenizer.decode(ids),
            "plain": tokenizer.decode(ids, skip_special_tokens=True),
            "cut": tokenizer.decode(ids[76:-1]),
        })
    return out


padded = CLIPTokenizer.from_pretrained(folder, pad_token="!")
added = CLIPTokenizer.from_pretrained(folder)
new_tokens = ["<swirl>", "<swirl>_1", "Folk Art", "rose"]
added.add_tokens(new_tokens)
with_new = [
    "a <swirl> of roses", "a<swirl>b", "<SWIRL>", "<swirl>_1<swirl>_2", "in Folk Art style", "folk art", "roses rose", "<swirl> <swirl>",
    "Folk  Art", "a <swirl> !", "<swirl><|endoftext|> x",
]
ids = [[generator.randrange(653) for _ in range(generator.randrange(1, 12))] for _ in range(60)]
plain = CLIPTokenizer.from_pretrained(folder)

result = {
    "plain": answers(plain, texts),
    "padded": answers(padded, texts[:60]),
    "newTokens": new_tokens,
    "added": answers(added, with_new + texts[:60]),
    "decoded": [{"ids": row, "text": plain.decode(row), "plain": plain.decode(row, skip_special_tokens=True)} for row in ids],
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(result, separators=(",", ":")) + "\n")
