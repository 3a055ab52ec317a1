"""Run as `python -m unittest discover python/tests`, with numpy."""

import gc
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from sglang_rl._ranks import _Ranks  # noqa: E402


class World:
    """A default group, as long as somebody holds it."""


class Distributed:
    """What is used of torch.distributed, on GPUs."""

    class group:
        WORLD = None

    def __init__(self):
        self.made = []

    def get_backend(self):
        return "nccl"

    def new_group(self, **_):
        # A group belongs to the default group of its time.
        self.made.append(f"of default group {self.number}")
        return self.made[-1]

    def start(self, number):
        self.number = number
        self.group.WORLD = World()

    def destroy(self):
        self.group.WORLD = None
        gc.collect()


class RanksTest(unittest.TestCase):
    def test_a_group_is_made_once_and_never_taken_for_that_of_another_default_group(self):
        dist = Distributed()
        for number in range(100):
            dist.start(number)
            for _ in range(3):
                self.assertEqual(_Ranks._on_cpu(dist), f"of default group {number}")
            dist.destroy()
        self.assertEqual(len(dist.made), 100)


if __name__ == "__main__":
    unittest.main()
