/**
 * The program that keeps a child process tree: Python 3.8 or later, standard library only, run as
 * `python -I -S -c`. Python, because every machine that runs SGLang has it, and because a program
 * in a string needs no file and no read permission.
 *
 * Its standard input is the life line: the owner holds the other end, so the end of file means that
 * the owner is gone, however it ended. The first line is the order (JSON), a later line `stop N`
 * asks to end the tree with N milliseconds of grace. Standard output carries the child's lines,
 * standard error one JSON event a line: `started`, `exited`, `failed`, `log_failed`, `stuck`.
 *
 * Two processes: the keeper, and its parent and guard, which the owner started. Each tells the other
 * every second that it runs. A keeper that dies leaves its tree to the guard, which ends it; one that
 * is frozen is continued, and killed when that does not help. When the guard dies the keeper ends the
 * tree. Owner, guard and keeper would have to be killed at one moment for a process to be left.
 *
 * The keeper is a subreaper: a process of the tree whose parent died becomes its child, whatever session it
 * is in, so the tree is gone exactly when the keeper has no child left. The child's output passes
 * through it, so that an owner whose event loop is busy never blocks the child; what the owner does
 * not read in time is left out there, but not in the log file.
 *
 * The part that is guard and line is in `guard_source.ts`.
 */
import { guardSource } from "./guard_source.ts";

/** The whole program. */
export const keeperSource: string = String.raw`
import collections, ctypes, errno, json, os, re, selectors, signal, socket, subprocess, sys, tempfile, time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
QUEUE_LINES, LINE_BYTES = 20000, 65536
COLOUR = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")

def prctl(option, value):
    try: ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (AttributeError, OSError): pass          # not Linux: the process group is what is left

def report(event, **fields):
    try: os.write(2, (json.dumps({"event": event, **fields}) + "\n").encode())
    except OSError: pass                            # the owner is gone

def read_order():
    data = b""
    while b"\n" not in data:
        part = os.read(0, 65536)
        if not part: os._exit(0)
        data += part
    line, rest = data.split(b"\n", 1)
    return json.loads(line), rest

def owner_variable(name):
    """What the owner was started with: Deno refuses to hand LD_* on under a scoped --allow-run."""
    try:
        with open("/proc/%d/environ" % os.getppid(), "rb") as f:
            for entry in f.read().split(b"\0"):
                if entry.startswith(name.encode() + b"="): return os.fsdecode(entry.split(b"=", 1)[1])
    except OSError: pass
    return None

def child_environment(order):
    env = dict(os.environ)
    for name in order["blanked"]:
        value = owner_variable(name)
        if value: env[name] = value
        else: env.pop(name, None)
    for name, value in order["env"].items():
        if value is None: env.pop(name, None)
        else: env[name] = value
    if order["prependPath"]:
        env["PATH"] = os.pathsep.join(order["prependPath"] + [p for p in [env.get("PATH")] if p])
    return env

def descendants():
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit(): continue
        try:
            with open("/proc/%s/stat" % name, "rb") as f: stat = f.read()
        except OSError: continue
        # "pid (name) state ppid": the name may hold anything, so count from its last bracket
        parents.setdefault(int(stat[stat.rindex(b")") + 2:].split()[1]), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        for pid in parents.get(todo.pop(), []):
            found.append(pid)
            todo.append(pid)
    return found

def send(pid, number):
    try: os.kill(pid, number)
    except OSError: pass

class Log:
    """The child's lines: all into the file, and to the owner as fast as it reads."""
    def __init__(self, order):
        self.secrets = [s.encode() for s in order["secrets"] if s]
        self.pending, self.dropped, self.partial, self.out = collections.deque(), 0, b"", b""
        self.temporary = order["logFile"] is None
        if self.temporary: self.fd, self.path = tempfile.mkstemp(prefix="sglang-rl-", suffix=".log")
        else:
            self.path = os.path.abspath(order["logFile"])
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    def feed(self, data):
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines: self.add(line)
        while len(self.partial) > LINE_BYTES:       # a line without end must not grow for ever
            self.add(self.partial[:LINE_BYTES])
            self.partial = self.partial[LINE_BYTES:]
    def finish(self):
        if self.partial: self.add(self.partial)
        self.partial = b""
    def add(self, line):
        # Colours, and the earlier states of a progress bar, are for terminals.
        line = COLOUR.sub(b"", line.rstrip(b"\r").rsplit(b"\r", 1)[-1])
        for secret in self.secrets: line = line.replace(secret, b"***")
        line += b"\n"
        self.write_file(line)
        if len(self.pending) >= QUEUE_LINES:
            self.pending.popleft()
            self.dropped += 1
        self.pending.append(line)
    def write_file(self, line):
        if self.fd is None: return
        try:
            while line: line = line[os.write(self.fd, line):]
        except OSError as error:                    # a full disk must not end the server
            report("log_failed", message=str(error))
            os.close(self.fd)
            self.fd = None
    def wants_out(self): return self.pending or self.out
    def write_out(self):
        """Writes what the pipe takes; False when the owner is gone."""
        try:
            while self.wants_out():
                if not self.out:
                    if self.dropped:
                        self.out = b"[%d lines left out here: they were not read in time]\n" % self.dropped
                        self.dropped = 0
                    while self.pending and len(self.out) < LINE_BYTES: self.out += self.pending.popleft()
                self.out = self.out[os.write(1, self.out):]
        except BlockingIOError: return True
        except OSError:
            self.pending.clear()
            self.out = b""
            return False
        return True

class Keeper:
    def __init__(self, order, rest):
        self.order, self.commands = order, rest
        self.stop_at = None                         # when patience with the child ends
        self.told, self.kill_began, self.child_gone_at = False, None, None
        self.status, self.requested, self.owner_gone = None, False, False
        self.log = Log(order)
        self.selector = selectors.DefaultSelector()
        wake_read, wake_write = os.pipe()
        for fd in (wake_read, wake_write, 1): os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop(order["orphanGraceMs"]))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake = wake_read
        self.selector.register(wake_read, selectors.EVENT_READ)
        self.selector.register(0, selectors.EVENT_READ)
        self.line = order.pop("line")
        self.selector.register(self.line.end, selectors.EVENT_READ)
        self.writing = False
        try: self.pid = self.spawn()
        except OSError:
            if self.log.temporary: os.unlink(self.log.path)
            raise
        if self.commands: self.obey()

    def spawn(self):
        # Should the keeper itself be killed, its direct child goes with it.
        child = subprocess.Popen(
            self.order["command"], stdin=self.input(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=child_environment(self.order), cwd=self.order["cwd"], start_new_session=True, bufsize=0,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.popen = child                          # kept: its finaliser would wait for the child
        self.pipe = child.stdout.fileno()
        os.set_blocking(self.pipe, False)
        self.selector.register(self.pipe, selectors.EVENT_READ)
        return child.pid

    def input(self):
        text = self.order.pop("input")
        if text is None: return subprocess.DEVNULL
        read, write = os.pipe()
        os.write(write, text.encode())              # the pipe takes it whole: it was limited for that
        os.close(write)
        return read

    def stop(self, grace_ms):
        at = time.monotonic() + grace_ms / 1000
        self.requested = self.requested or self.status is None
        self.stop_at = at if self.stop_at is None else min(self.stop_at, at)
        if not self.told and self.status is None:
            # The main process alone: SGLang ends its own children, and takes their death for a crash.
            self.told = True
            send(self.pid, signal.SIGTERM)

    def obey(self):
        *lines, self.commands = self.commands.split(b"\n")
        for line in lines:
            if line.startswith(b"stop "): self.stop(int(line[5:]))

    def read_commands(self):
        try: data = os.read(0, 4096)
        except OSError: data = b""
        if data:
            self.commands += data
            self.obey()
            return
        self.selector.unregister(0)
        self.owner_gone = True
        self.stop(self.order["orphanGraceMs"])

    def read_child(self):
        while True:
            try: data = os.read(self.pipe, 65536)
            except BlockingIOError: return
            except OSError: data = b""
            if not data:
                self.selector.unregister(self.pipe)
                self.pipe = None
                return
            self.log.feed(data)
            if len(data) < 65536: return

    def reap(self):
        """Collects the dead; True when no process of the tree is left."""
        while True:
            try: pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError: return True
            if pid == 0: return False
            if pid == self.pid:
                self.status, self.child_gone_at = status, time.monotonic()

    def press(self):
        """Ends what is left once the child is gone or patience is over; False when it can't be done."""
        now = time.monotonic()
        overdue = self.stop_at is not None and now >= self.stop_at
        if self.status is None and not overdue: return True
        settled = 0 if self.child_gone_at is None else now - self.child_gone_at
        if not overdue and settled < 0.3: return True       # helpers that end by themselves
        number = signal.SIGTERM if not overdue and settled < 1 else signal.SIGKILL
        if number == signal.SIGKILL and self.kill_began is None: self.kill_began = now
        try: left = descendants()
        except OSError: left = []
        for pid in left: send(pid, number)
        if not left:
            try: os.killpg(self.pid, number)
            except OSError: pass
        if self.kill_began is None or now - self.kill_began < 10: return True
        report("stuck", pids=left)
        return False

    def turn(self):
        wants = bool(self.log.wants_out()) and not self.owner_gone
        if wants != self.writing:
            self.writing = wants
            if wants: self.selector.register(1, selectors.EVENT_WRITE)
            else: self.selector.unregister(1)
        ending = self.stop_at is not None or self.status is not None
        if self.line.beat() == REVIVE: send(os.getppid(), signal.SIGCONT)
        for key, _ in self.selector.select(0.05 if ending else BEAT_SECONDS):
            if key.fileobj is self.line.end:
                if self.line.hear(): continue
                # Our guard was killed: nobody is left to end the tree should we be, too.
                self.selector.unregister(self.line.end)
                requested = self.requested
                self.stop(0)
                self.requested = requested
            elif key.fd == self.wake:
                try: os.read(self.wake, 4096)
                except BlockingIOError: pass
            elif key.fd == 0: self.read_commands()
            elif key.fd == 1: self.owner_gone = not self.log.write_out() or self.owner_gone
            else: self.read_child()

    def run(self):
        report("started", pid=self.pid, logFile=self.log.path)
        while not self.reap():
            if not self.press(): break
            self.turn()
        while self.pipe is not None and not self.drained(): pass
        self.log.finish()
        self.report_end()
        self.flush_out()

    def drained(self):
        """Takes what is still in the pipe; nobody writes to it any more."""
        before = self.pipe
        self.read_child()
        return self.pipe == before and not select_readable(before)

    def report_end(self):
        status = self.status
        code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        kept = True
        if self.log.temporary and (self.requested or code == 0):
            try: os.unlink(self.log.path)
            except OSError: pass
            kept = False
        name = None if number is None else signal.Signals(number).name if number < 32 else str(number)
        report("exited", code=code, signal=name, requested=self.requested, logKept=kept)

    def flush_out(self):
        end = time.monotonic() + 2
        while self.log.wants_out() and not self.owner_gone and time.monotonic() < end:
            self.owner_gone = not self.log.write_out()
            if self.log.wants_out(): time.sleep(0.01)

def select_readable(fd):
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(0))

${guardSource}
def main():
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # A frozen process of ours is woken when its parent dies, so that it can do its work.
    prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    order, rest = read_order()
    guards, keepers = socket.socketpair()
    pid = os.fork()
    if pid != 0:
        keepers.close()
        Guard(pid, Line(guards)).run()
    guards.close()
    prctl(PR_SET_CHILD_SUBREAPER, 1)                # not inherited
    prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    order["line"] = Line(keepers)
    try: keeper = Keeper(order, rest)
    except OSError as error:
        report("failed", errno=errno.errorcode.get(error.errno, "?"), message=str(error))
        os._exit(1)
    keeper.run()
    os._exit(0)

main()
`;
