"""One end of a TCPStore for tcp_store_test.ts. Usage: store.py client|server PORT"""
import json
import sys
from datetime import timedelta

from torch.distributed import TCPStore


def client(port):
    store = TCPStore("127.0.0.1", port, 2, False, timeout=timedelta(seconds=60), wait_for_workers=False)
    store.set("a", "hello")
    seen = {"get": store.get("a").decode(), "demanded": store.get("demand").decode()}
    seen["add"] = [store.add("n", 5), store.add("n", -7)]
    seen["check"] = [store.check(["a", "n"]), store.check(["missing"])]
    store.set("b", "x")
    seen["keys"] = store.num_keys() + (0 if store.check(["init/"]) else 1)
    seen["deleted"] = [store.delete_key("b"), store.delete_key("b")]
    seen["compareSet"] = [
        store.compare_set("c", "", "one").decode(),
        store.compare_set("c", "other", "two").decode(),
        store.compare_set("c", "one", "two").decode(),
    ]
    store.append("d", "1")
    store.append("d", "22")
    seen["appended"] = store.get("d").decode()
    store.multi_set(["m1", "m2"], ["q", "r"])
    seen["multi"] = [value.decode() for value in store.multi_get(["m1", "m2"])]
    try:
        store.wait(["missing"], timedelta(milliseconds=300))
        seen["timedOut"] = False
    except Exception:
        seen["timedOut"] = True
    store.set("a", "hello again")
    seen["afterTimeout"] = store.get("a").decode()
    store.set("large", b"\0" * (8 * 1024 * 1024))
    seen["large"] = len(store.get("large"))
    store.set("about to wait", "1")
    seen["late"] = store.get("late").decode()
    print(json.dumps(seen))


def server(port):
    store = TCPStore("127.0.0.1", port, 2, True, timeout=timedelta(seconds=60))
    store.set("from server", "b")
    store.wait(["done"])
    print(json.dumps({"fromClient": store.get("from client").decode(), "n": store.get("n").decode()}))


{"client": client, "server": server}[sys.argv[1]](int(sys.argv[2]))
