"""Ids, words and texts that Hugging Face's tokenizers make: python encode.py INPUT OUTPUT.

INPUT is JSON: [{"tokenizer": text or path of a tokenizer.json, "texts": [...], "ids": [[...]]}].
OUTPUT is JSON: for each {"error"} or {"ids", "special", "words"}, by text, and {"decoded", "said"} by
list of ids, with special tokens and without; `null` where tokenizers fail.
"""
import json
import os
import sys

# A panic of Rust's tells enough in one line.
os.environ["RUST_BACKTRACE"] = "0"
from tokenizers import Tokenizer


def encode(given):
    source = given["tokenizer"]
    try:
        tokenizer = Tokenizer.from_str(source) if source.startswith("{") else Tokenizer.from_file(source)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": str(error)[:200]}
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def words(text):
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is None or text == "":
            return [text] if text else []
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def attempt(run, text):
        try:
            return run(text)
        except BaseException as error:
            # Rust may panic, which is no Exception.
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return None

    def decode(ids, skip):
        return tokenizer.decode(ids, skip_special_tokens=skip)

    texts = given["texts"]
    lists = given.get("ids", [])
    return {
        "ids": [attempt(lambda one: tokenizer.encode(one, add_special_tokens=False).ids, text) for text in texts],
        "special": [attempt(lambda one: tokenizer.encode(one).ids, text) for text in texts],
        "words": [attempt(words, text) for text in texts],
        "decoded": [attempt(lambda one: decode(one, False), ids) for ids in lists],
        "said": [attempt(lambda one: decode(one, True), ids) for ids in lists],
    }


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with open(source, encoding="utf8") as file:
        given = json.load(file)
    with open(target, "w", encoding="utf8") as file:
        json.dump([encode(one) for one in given], file)
