"""Starts SGLang servers in seconds: each is forked from a process that has imported SGLang.

    fork_server.py serve SOCKET           imports SGLang and waits for orders
    fork_server.py run SOCKET -m MODULE…  one server; who kills this kills all of the server
"""

import json
import os
import signal
import socket
import struct
import sys
import threading


def serve(path):
    import multiprocessing

    # SGLang asks for "spawn", with which each process of a server imports everything again.
    multiprocessing.set_start_method("fork")
    multiprocessing.set_start_method = lambda *_args, **_options: None
    import sglang.launch_server  # noqa: F401
    import sglang.srt.entrypoints.http_server  # noqa: F401
    import sglang.srt.managers.detokenizer_manager  # noqa: F401
    import sglang.srt.managers.scheduler  # noqa: F401
    import sglang.srt.managers.tokenizer_manager  # noqa: F401
    import sglang.srt.models.registry  # noqa: F401

    # A fork takes no thread but its own along.
    assert threading.active_count() == 1, threading.enumerate()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            watch(connection)
        connection.close()


def watch(connection):
    """Forks a server, and ends all of it as soon as whoever asked for it is gone."""
    order, outputs = receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        become(order, outputs)

    def end_when_gone():
        connection.recv(1)
        kill_group(child)

    threading.Thread(target=end_when_gone, daemon=True).start()
    _, status = os.waitpid(child, 0)
    kill_group(child)
    try:
        connection.sendall(struct.pack("<i", os.waitstatus_to_exitcode(status)))
    finally:
        os._exit(0)


def become(order, outputs):
    import runpy

    os.setsid()
    for target, fd in zip((1, 2), outputs):
        os.dup2(fd, target)
        os.close(fd)
    os.environ.clear()
    os.environ.update(order["env"])
    module, *args = order["args"]
    sys.argv[:] = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    os._exit(0)


def kill_group(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def receive(connection):
    head, outputs, _, _ = socket.recv_fds(connection, 4, 2)
    (length,) = struct.unpack("<I", head)
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data))
    return json.loads(data), outputs


def run(path, args):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    order = json.dumps({"args": args[1:], "env": dict(os.environ)}).encode()
    socket.send_fds(connection, [struct.pack("<I", len(order))], [1, 2])
    connection.sendall(order)
    code = connection.recv(4)
    sys.exit(struct.unpack("<i", code)[0] & 0xFF if code else 1)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    run(sys.argv[2], sys.argv[3:])
