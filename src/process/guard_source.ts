/**
 * The guard of {@linkcode keeperSource}, and the line between it and the keeper. Part of one program:
 * it uses what that one imports and defines (`send`, `report`, `descendants`).
 */
export const guardSource: string = String.raw`class Guard:
    """The keeper's parent. What a keeper that dies leaves becomes its child, and is ended."""
    def __init__(self, keeper, line):
        self.keeper, self.line, self.status = keeper, line, None
        # The owner must see the end of the keeper's output. Errors are ours to report, too.
        for fd in (0, 1): os.close(fd)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: send(self.keeper, number))

    def reap(self):
        """Collects the dead; True when nobody is left."""
        while True:
            try: pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError: return True
            if pid == 0: return False
            if pid == self.keeper: self.status = status

    def run(self):
        while not self.reap() and self.status is None:
            beat = self.line.turn()
            if beat == REVIVE: send(self.keeper, signal.SIGCONT)
            if beat == GIVE_UP:
                os.write(2, b"the keeper stopped answering: it and its processes were ended\n")
                send(self.keeper, signal.SIGKILL)
        self.end_rest()
        os._exit(os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else 1)

    def end_rest(self):
        end = time.monotonic() + 10
        while not self.reap():
            left = descendants()
            for pid in left: send(pid, signal.SIGKILL)
            if time.monotonic() > end: return report("stuck", pids=left)
            time.sleep(0.02)

BEAT_SECONDS, REVIVE, GIVE_UP = 1.0, 3, 8

class Line:
    """Between keeper and guard: each says every second that it runs, and hears when the other ends."""
    def __init__(self, end):
        self.end, self.missed, self.said_at, self.closed = end, 0, 0.0, False
        end.setblocking(False)
    def hear(self):
        """Takes what came in; False when the other is gone."""
        try:
            data = self.end.recv(4096)
            self.missed = 0
            return data != b""
        except BlockingIOError: return True
        except OSError: return False
    def beat(self):
        """Says that we run, once a second; how often the other has been silent when we did."""
        now = time.monotonic()
        if now - self.said_at < BEAT_SECONDS: return 0
        # Counted in turns of ours, not in time: when all were frozen together nobody was silent.
        self.said_at, self.missed = now, self.missed + 1
        try: self.end.send(b".")
        except OSError: pass
        return self.missed
    def turn(self):
        if self.closed: time.sleep(0.01)
        else: wait_readable(self.end, BEAT_SECONDS)
        if not self.closed and not self.hear(): self.closed = True
        return self.beat()

def wait_readable(end, seconds):
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        selector.select(seconds)`;
