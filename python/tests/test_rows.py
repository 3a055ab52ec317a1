"""Run as `python -m unittest discover python/tests`, with numpy and torch."""

import json
import pathlib
import struct
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from sglang_rl import collate, join_turns, read_rows  # noqa: E402

RECORD = {
    "schema": "sglang-rl.rollout/1",
    "dialog": 3,
    "attempt": 0,
    "environment": 1,
    "turn": 0,
    "messages": [],
    "response": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
    "prompt_ids": [1, 2],
    "response_ids": [5],
    "log_probs": [None],
    "token_versions": [0],
    "versions_exact": True,
    "weight_versions": None,
    "reward": 1,
    "done": True,
    "truncated": False,
    "finish_reason": "stop",
    "stale": False,
    "info": {"task": "x"},
}


def written(name, data):
    path = pathlib.Path(tempfile.mkdtemp()) / name
    path.write_bytes(data)
    return path


def json_lines(*records):
    return written("rows.jsonl", "".join(json.dumps(r) + "\n" for r in records).encode())


class ReadRows(unittest.TestCase):
    def test_a_file_of_the_first_schema_has_a_group_for_each_dialog(self):
        [row] = read_rows(json_lines(RECORD))
        self.assertEqual((row.group, row.member, row.parent, row.branch), (3, 0, None, 0))
        self.assertEqual(row.response_text, "Hi")

    def test_a_probability_of_nothing_comes_back_as_minus_infinity(self):
        [row] = read_rows(json_lines(RECORD))
        self.assertEqual(row.log_probs[0], float("-inf"))

    def test_an_unknown_schema_and_a_torn_line_are_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "schema other/1, expected one of"):
            read_rows(json_lines({**RECORD, "schema": "other/1"}))
        with self.assertRaisesRegex(ValueError, "line 1 is no JSON"):
            read_rows(written("torn.jsonl", b'{"schema": '))

    def test_a_file_that_is_no_safetensors_is_refused(self):
        for data in (b"", b"abc", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 9) + b"{}"):
            with self.assertRaisesRegex(ValueError, "is no safetensors file"):
                read_rows(written("bad.safetensors", data))

    def test_a_line_that_is_no_row_is_refused_by_its_number(self):
        bad = [
            (b"[1]", "is no JSON object"),
            (b"\xff", "is no JSON"),
            (b"[" * 100_000, "is no JSON"),
            (json.dumps({**RECORD, "response": None}), "is no row"),
            (json.dumps({**RECORD, "response_ids": [2**40]}), "is no row"),
            (json.dumps({**RECORD, "response_ids": [1, 2]}), "differ in length"),
            (json.dumps({name: RECORD[name] for name in RECORD if name != "reward"}), "reward is missing"),
        ]
        for line, message in bad:
            data = line if isinstance(line, bytes) else line.encode()
            whole = json.dumps(RECORD).encode() + b"\n" + data
            with self.assertRaisesRegex(ValueError, "line 2.*" + message):
                read_rows(written("bad.jsonl", whole))

    def test_safetensors_that_are_no_rows_are_refused_by_what_they_lack(self):
        metadata = {"schema": "sglang-rl.rollout/2", "version_names": "[]", "finish_reasons": "[]"}
        bad = [
            ([], "is no JSON object"),
            ({"__metadata__": []}, "metadata is no JSON object"),
            ({"x": 5}, "column x is out of bounds"),
            ({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}, "column x is out of"),
            ({"__metadata__": {"schema": metadata["schema"]}}, "version_names is missing"),
            ({"__metadata__": metadata}, "reward is missing"),
        ]
        for header, message in bad:
            text = json.dumps(header).encode()
            data = struct.pack("<Q", len(text)) + text + b"1234"
            with self.assertRaisesRegex(ValueError, r"bad\.safetensors.*" + message):
                read_rows(written("bad.safetensors", data))

    def test_numbers_that_are_not_finite_come_as_they_are(self):
        line = json.dumps({**RECORD, "reward": "NaN", "response_ids": [1, 2, 3]})
        line = line.replace('"log_probs": [null]', '"log_probs": [null, 1e999, "NaN"]')
        [row] = read_rows(written("wild.jsonl", line.encode()))
        self.assertEqual(str(row.reward), "nan")
        self.assertEqual(str(row.log_probs.tolist()), "[-inf, inf, nan]")


def turn(number, prompt, answer, **others):
    log_probs = [-float(id) for id in answer]
    return {
        **RECORD,
        "turn": number,
        "prompt_ids": prompt,
        "response_ids": answer,
        "log_probs": log_probs,
        **others,
    }


class JoinTurns(unittest.TestCase):
    def test_turns_that_go_on_are_one_row_and_others_branches(self):
        rows = read_rows(
            json_lines(
                turn(0, [1, 2], [3], reward=0.5),
                turn(0, [1, 2], [7], dialog=4),
                turn(1, [1, 2, 3, 4], [5, 6]),
                turn(2, [1, 9, 3, 4, 5, 6], [8]),
            )
        )
        first, branch, other = join_turns(rows)
        self.assertEqual((first.dialog, first.branch, first.reward), (3, 0, 1.5))
        self.assertEqual(first.ids.tolist(), [1, 2, 3, 4, 5, 6])
        self.assertEqual(first.loss_mask.tolist(), [False, False, True, False, True, True])
        self.assertEqual(first.log_probs.tolist(), [0, 0, -3, 0, -5, -6])
        self.assertEqual([row.turn for row in first.turns], [0, 1])
        self.assertEqual((branch.dialog, branch.branch, branch.ids[-1]), (3, 1, 8))
        self.assertEqual((other.dialog, other.branch, other.ids.tolist()), (4, 0, [1, 2, 7]))

    def test_every_sampled_id_is_in_just_one_row(self):
        random = np.random.default_rng(7)
        for _ in range(200):
            records, prompt = [], [1]
            for number in range(int(random.integers(1, 6))):
                answer = random.integers(1, 9, int(random.integers(0, 4))).tolist()
                records.append(turn(number, prompt, answer))
                kept = prompt + answer
                if random.random() < 0.3:
                    kept = kept[: int(random.integers(0, len(kept)))]
                prompt = kept + random.integers(1, 9, int(random.integers(0, 3))).tolist()
            rows = read_rows(json_lines(*records))
            joined = join_turns(rows)
            self.assertEqual([t for row in joined for t in row.turns], rows)
            for row in joined:
                sampled = np.concatenate([t.response_ids for t in row.turns])
                self.assertEqual(row.ids[row.loss_mask].tolist(), sampled.tolist())
                self.assertEqual(row.log_probs[row.loss_mask].tolist(), [-id for id in sampled])

    def test_a_turn_without_log_probs_leaves_its_row_without(self):
        [row] = join_turns(read_rows(json_lines(turn(0, [1], [2], log_probs=None), turn(1, [1, 2], [3]))))
        self.assertIsNone(row.log_probs)
        self.assertEqual(row.loss_mask.tolist(), [False, True, True])


class Collate(unittest.TestCase):
    def test_joined_turns_are_padded_like_turns_and_keep_their_masks(self):
        rows = read_rows(json_lines(turn(0, [1, 2], [3]), turn(1, [1, 2, 3, 4], [5]), turn(0, [1], [6], dialog=4)))
        batch = collate(join_turns(rows), pad_id=9)
        self.assertEqual(batch["ids"].tolist(), [[1, 2, 3, 4, 5], [1, 6, 9, 9, 9]])
        self.assertEqual(batch["loss_mask"].int().tolist(), [[0, 0, 1, 0, 1], [0, 1, 0, 0, 0]])
        self.assertEqual(batch["log_probs"].tolist(), [[0, 0, -3, 0, -5], [0, -6, 0, 0, 0]])
        self.assertEqual(batch["reward"].tolist(), [2, 1])
        self.assertEqual(batch["turn"].tolist(), [1, 0])

    def test_rows_are_padded_on_the_right_and_masks_tell_what_was_sampled(self):
        longer = {**RECORD, "response_ids": [6, 7, 8], "log_probs": [-1, -2, -3], "group": 9}
        batch = collate(read_rows(json_lines(RECORD, longer)), pad_id=99)
        self.assertEqual(batch["ids"].tolist(), [[1, 2, 5, 99, 99], [1, 2, 6, 7, 8]])
        self.assertEqual(batch["attention_mask"].sum(1).tolist(), [3, 5])
        self.assertEqual(batch["loss_mask"][1].tolist(), [False, False, True, True, True])
        self.assertEqual(batch["log_probs"][1].tolist(), [0, 0, -1, -2, -3])
        self.assertEqual(batch["group"].tolist(), [3, 9])

    def test_a_row_that_is_too_long_or_without_log_probs_is_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "dialog 3, turn 0 has 3 ids, above max_length 2"):
            collate(read_rows(json_lines(RECORD)), max_length=2)
        with self.assertRaisesRegex(ValueError, "dialog 3, turn 0 has no log-probabilities"):
            collate(read_rows(json_lines({**RECORD, "log_probs": None})))


if __name__ == "__main__":
    unittest.main()
