"""Prints the rows of a batch file as JSON, read by Python's own libraries."""

import json
import sys

sys.path.insert(0, sys.argv[1])

from sglang_rl import join_turns, read_rows  # noqa: E402

rows = read_rows(sys.argv[2])

print(
    json.dumps(
        {
            "rows": [
                {
                    "dialog": row.dialog,
                    "group": row.group,
                    "parent": row.parent,
                    "info": row.info,
                    "turn": row.turn,
                    "promptIds": row.prompt_ids.tolist(),
                    "responseIds": row.response_ids.tolist(),
                    "logProbs": row.log_probs.tolist(),
                    "tokenVersions": row.token_versions,
                    "reward": row.reward,
                    "done": row.done,
                    "stale": row.stale,
                }
                for row in rows
            ],
            "joined": [
                {
                    "dialog": row.dialog,
                    "branch": row.branch,
                    "ids": row.ids.tolist(),
                    "mask": row.loss_mask.astype(int).tolist(),
                    "logProbs": row.log_probs.tolist(),
                    "turns": [turn.turn for turn in row.turns],
                }
                for row in join_turns(rows)
            ],
        }
    )
)
