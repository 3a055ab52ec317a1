"""Reads rollout files: safetensors or JSON lines, schemas sglang-rl.rollout/1 and /2."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCHEMAS = ("sglang-rl.rollout/1", "sglang-rl.rollout/2")

_DTYPES = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_LARGEST_HEADER = 100_000_000


@dataclass(eq=False)
class Row:
    """One turn of a dialog: P ids of the prompt, R ids that were sampled.

    `group` is the dialog's own number and `member` 0 where a file has no groups.
    """

    dialog: int
    attempt: int
    group: int
    member: int
    environment: int
    turn: int
    parent: int | None
    """Turn that this one goes on from; None for the first, and in files of schema /1."""
    branch: int
    prompt_ids: np.ndarray
    """int32 (P)"""
    response_ids: np.ndarray
    """int32 (R)"""
    log_probs: np.ndarray | None
    """float32 (R): what each id was sampled with; None when it was not asked for."""
    token_versions: list[int | str | None] | None
    """Policy version of each sampled id (R), None for weights that nobody knew; None untracked."""
    versions_exact: bool
    weight_versions: list[dict[str, Any]] | None
    """Spans {version, start, end} by the servers' own names."""
    server: str | None
    """Address that answered; None when it is not known, and in files of schema /1."""
    reward: float
    done: bool
    truncated: bool
    stale: bool
    finish_reason: str
    response_text: str
    info: dict[str, Any] = field(default_factory=dict)
    routed_experts: np.ndarray | None = None
    """int32 (T, layers * top-k): experts of the tokens from `routed_experts_start` on."""
    routed_experts_start: int = 0
    """Position of the first of these tokens, counted from the prompt's first."""


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """All rows of a file, in the batch's order."""
    return list(iter_rows(path))


def iter_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a file one by one; a file of JSON lines is read line by line.

    Raises ValueError for a file that is not a rollout, naming what is wrong.
    """
    name = os.fspath(path)
    return _json_lines(name) if name.endswith(".jsonl") else _safetensors(name)


def _json_lines(path: str) -> Iterator[Row]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"{where} is no JSON object")
            _check_schema(record.get("schema"), path)
            with _no_row(where):
                row = _from_record(record)
            yield row


@contextmanager
def _no_row(where: str) -> Iterator[None]:
    """Tells of what a row lacks, or has of another kind, by its place."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]} is missing") from error
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no row: {error}") from error


def _from_record(record: dict[str, Any]) -> Row:
    content = record["response"].get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    log_probs = record["log_probs"]
    if log_probs is not None:
        # JSON has no infinities; a probability of 0 comes as null.
        log_probs = np.array([-np.inf if p is None else p for p in log_probs], dtype=np.float32)
        if len(log_probs) != len(record["response_ids"]):
            raise ValueError("log_probs and response_ids differ in length")
    return Row(
        dialog=record["dialog"],
        attempt=record["attempt"],
        group=record.get("group", record["dialog"]),
        member=record.get("member", 0),
        environment=record["environment"],
        turn=record["turn"],
        parent=record.get("parent"),
        branch=record.get("branch", 0),
        prompt_ids=np.array(record["prompt_ids"] or [], dtype=np.int32),
        response_ids=np.array(record["response_ids"], dtype=np.int32),
        log_probs=log_probs,
        token_versions=record["token_versions"],
        versions_exact=record["versions_exact"],
        weight_versions=record["weight_versions"],
        server=record.get("server"),
        reward=float(record["reward"]),
        done=record["done"],
        truncated=record["truncated"],
        stale=record["stale"],
        finish_reason=record["finish_reason"],
        response_text=content or "",
        info=record["info"],
        **_routed(record.get("routed_experts")),
    )


def _routed(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    flat = np.frombuffer(base64.b64decode(value["data"]), dtype="<i4")
    return {
        "routed_experts": flat.reshape(value["tokens"], -1) if value["tokens"] else flat.reshape(0, 0),
        "routed_experts_start": value["start"],
    }


def rows_of(data: bytes, name: str) -> Iterator[Row]:
    """The rows of a safetensors file that is in memory; errors call it `name`."""
    columns, metadata = _parse_safetensors(np.frombuffer(data, dtype=np.uint8), name)
    _check_schema(metadata.get("schema"), name)
    with _no_row(name):
        yield from _rows(columns, metadata)


def _safetensors(path: str) -> Iterator[Row]:
    empty = os.path.getsize(path) == 0
    data = np.zeros(0, np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r")
    columns, metadata = _parse_safetensors(data, path)
    _check_schema(metadata.get("schema"), path)
    with _no_row(path):
        yield from _rows(columns, metadata)


def _rows(columns: dict[str, np.ndarray], metadata: dict[str, str]) -> Iterator[Row]:
    names = [_version(name) for name in json.loads(metadata["version_names"])]
    reasons = json.loads(metadata["finish_reasons"])
    texts = _texts(columns, "response_text")
    infos = _texts(columns, "info")
    spans = _texts(columns, "weight_versions")
    servers = _texts(columns, "server")
    for i in range(len(columns["reward"])):
        answer = _slice(columns["response_offsets"], i)
        versions = columns.get("token_versions")
        log_probs = columns.get("log_probs")
        dialog = int(columns["dialog"][i])
        parent = int(columns["parent"][i]) if "parent" in columns else -1
        yield Row(
            dialog=dialog,
            attempt=int(columns["attempt"][i]),
            group=int(columns["group"][i]) if "group" in columns else dialog,
            member=int(columns["member"][i]) if "member" in columns else 0,
            environment=int(columns["environment"][i]),
            turn=int(columns["turn"][i]),
            parent=None if parent < 0 else parent,
            branch=int(columns["branch"][i]) if "branch" in columns else 0,
            prompt_ids=columns["prompt_ids"][_slice(columns["prompt_offsets"], i)],
            response_ids=columns["response_ids"][answer],
            log_probs=None if log_probs is None else log_probs[answer],
            token_versions=None if versions is None else [names[v] if v >= 0 else None for v in versions[answer]],
            versions_exact=bool(columns["versions_exact"][i]),
            weight_versions=None if spans is None else json.loads(spans[i]),
            server=(servers[i] or None) if servers is not None else None,
            reward=float(columns["reward"][i]),
            done=bool(columns["done"][i]),
            truncated=bool(columns["truncated"][i]),
            stale=bool(columns["stale"][i]),
            finish_reason=reasons[columns["finish_reason"][i]],
            response_text=texts[i] if texts is not None else "",
            info={} if infos is None else json.loads(infos[i]),
            **_routed_of(columns, i),
        )


def _routed_of(columns: dict[str, np.ndarray], i: int) -> dict[str, Any]:
    starts = columns.get("routed_experts_start")
    if starts is None or starts[i] < 0:
        return {}
    flat = columns["routed_experts"][_slice(columns["routed_experts_offsets"], i)]
    tokens = int(columns["routed_experts_tokens"][i])
    return {
        "routed_experts": flat.reshape(tokens, -1) if tokens else flat.reshape(0, 0),
        "routed_experts_start": int(starts[i]),
    }


def _parse_safetensors(
    file: np.ndarray, path: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    size = len(file)
    length = struct.unpack("<Q", file[:8].tobytes())[0] if size >= 8 else -1
    if not 0 <= length <= min(size - 8, _LARGEST_HEADER):
        raise ValueError(f"{path} is no safetensors file: its header would not fit into it")
    try:
        header = json.loads(file[8 : 8 + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no safetensors file: its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file: its header is no JSON object")
    data = file[8 + length :]
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} is no safetensors file: its metadata is no JSON object")
    columns = {}
    for name, entry in header.items():
        try:
            columns[name] = _column(entry, data)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: column {name} is out of bounds or of an unknown type") from error
    return columns, metadata


def _column(entry: dict[str, Any], data: np.ndarray) -> np.ndarray:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"bytes {begin} to {end} of {len(data)}")
    dtype = _DTYPES[entry["dtype"]]
    return np.frombuffer(data[begin:end].tobytes(), dtype=dtype).reshape(entry["shape"])


def _texts(columns: dict[str, np.ndarray], name: str) -> list[str] | None:
    if name not in columns:
        return None
    offsets = columns[f"{name}_offsets"]
    data = columns[name].tobytes()
    return [data[offsets[i] : offsets[i + 1]].decode() for i in range(len(offsets) - 1)]


def _slice(offsets: np.ndarray, i: int) -> slice:
    return slice(int(offsets[i]), int(offsets[i + 1]))


def _version(name: str) -> int | str:
    return int(name) if name.isdecimal() else name


def _check_schema(schema: str | None, path: str) -> None:
    if schema not in SCHEMAS:
        raise ValueError(f"{path} has the schema {schema}, expected one of {', '.join(SCHEMAS)}")
