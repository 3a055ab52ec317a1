"""Prints the curves of a folder of event files as JSON, as TensorBoard reads them."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
names = events.Tags()["scalars"]
print(json.dumps({name: [[one.step, one.value] for one in events.Scalars(name)] for name in names}))
