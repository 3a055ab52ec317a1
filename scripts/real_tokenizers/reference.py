"""What Python makes of texts and conversations: python reference.py MODELS INPUT OUTPUT.

INPUT is JSON: {"texts": [...], "conversations": [{"messages", "tools", "variables", "open"}]}.
OUTPUT is JSON: for each model folder ids, decoded texts, renders and assistant masks.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import AutoTokenizer


def attempt(run):
    try:
        return run()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def conversation(tokenizer, chat, has_blocks):
    options = {"tools": chat["tools"], "add_generation_prompt": chat["open"], **chat["variables"]}
    text = attempt(lambda: tokenizer.apply_chat_template(chat["messages"], tokenize=False, **options))
    if not isinstance(text, str):
        return text
    result = {"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)}
    if has_blocks:
        masked = tokenizer.apply_chat_template(
            chat["messages"], return_dict=True, return_assistant_tokens_mask=True, **options
        )
        result["mask"] = masked["assistant_masks"]
    return result


def model(folder, given):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = []
    for text in given["texts"]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        texts.append({
            "ids": ids,
            "special": tokenizer.encode(text),
            "decoded": tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False),
            # Cut in two, which may be inside a character.
            "cut": [
                tokenizer.backend_tokenizer.decode(part, skip_special_tokens=True)
                for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :])
            ],
        })
    has_blocks = "generation %}" in tokenizer.chat_template
    chats = [conversation(tokenizer, chat, has_blocks) for chat in given["conversations"]]
    return {"texts": texts, "conversations": chats, "has_blocks": has_blocks}


if __name__ == "__main__":
    models, source, target = sys.argv[1:]
    given = json.load(open(source, encoding="utf8"))
    result = {name: model(os.path.join(models, name), given) for name in sorted(os.listdir(models))}
    json.dump(result, open(target, "w", encoding="utf8"))
