"""Run as `python -m unittest discover python/tests`, with numpy and torch."""

import json
import pathlib
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from sglang_rl import collate, read_rows  # noqa: E402

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


class Collate(unittest.TestCase):
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
