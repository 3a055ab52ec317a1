"""Prints the rows of a batch file as JSON, read by Python's own libraries."""

import json
import sys

sys.path.insert(0, sys.argv[1])

from sglang_rl import read_rows  # noqa: E402

print(
    json.dumps(
        [
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
            for row in read_rows(sys.argv[2])
        ]
    )
)
