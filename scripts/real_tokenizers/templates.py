"""What transformers makes of conversations with chat templates: python templates.py FOLDER INPUT OUTPUT.

INPUT is JSON: {"conversations": [{"messages", "tools", "variables", "open"}], "tokens": {...}}.
OUTPUT is JSON: for each template of the folder a list of {"text", "spans"} or {"error"}; the spans are
what `return_assistant_tokens_mask` marks, in UTF-16 units. Where a conversation has contents in parts or
arguments of calls as JSON, "read" is the text of it after SGLang's servers have read these.
"""
import datetime
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers.utils.chat_template_utils import render_jinja_template


def units(text):
    """The place in UTF-16 of each character."""
    places = [0]
    for character in text:
        places.append(places[-1] + (2 if ord(character) > 0xFFFF else 1))
    return places


def present(message):
    """A message as apply_chat_template hands it on."""
    return {key: value for key, value in message.items() if value is not None}


def as_read(message):
    """A message with its parts as one text and its calls with arguments as objects."""
    result = dict(message)
    if isinstance(result.get("content"), list):
        result["content"] = " ".join(part["text"] for part in result["content"])
    if result.get("tool_calls"):
        result["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": read_arguments(call)}}
            for call in result["tool_calls"]
        ]
    return result


def read_arguments(call):
    given = call["function"]["arguments"]
    return json.loads(given) if isinstance(given, str) else given


def conversation(template, chat, tokens, has_blocks):
    # transformers gives no mask of a conversation that goes on.
    has_blocks = has_blocks and not chat["variables"].get("continue_final_message")
    try:
        rendered, indices = render_jinja_template(
            [[present(message) for message in chat["messages"]]],
            tools=chat["tools"],
            chat_template=template,
            add_generation_prompt=chat["open"],
            return_assistant_tokens_mask=has_blocks,
            **tokens,
            **chat["variables"],
        )
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    result = {"text": rendered[0]}
    if has_blocks:
        places = units(rendered[0])
        result["spans"] = [[places[start], places[end]] for start, end in indices[0]]
    return result


def both(template, chat, tokens, has_blocks):
    result = conversation(template, chat, tokens, has_blocks)
    messages = [as_read(message) for message in chat["messages"]]
    if messages != chat["messages"]:
        read = conversation(template, {**chat, "messages": messages}, tokens, False)
        result["read"] = read.get("text")
    return result


if __name__ == "__main__":
    folder, source, target = sys.argv[1:]
    with open(source, encoding="utf8") as file:
        given = json.load(file)
    result = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".jinja"):
            continue
        with open(os.path.join(folder, name), encoding="utf8") as file:
            template = file.read()
        has_blocks = "generation %}" in template or "generation -%}" in template
        result[name.removesuffix(".jinja")] = [
            both(template, chat, given["tokens"], has_blocks) for chat in given["conversations"]
        ]
    with open(target, "w", encoding="utf8") as file:
        json.dump(result, file)
