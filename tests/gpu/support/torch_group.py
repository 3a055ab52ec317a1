"""Groups of NCCL in torch, as the scripts beside this one open them."""
import socket

from torch.distributed.distributed_c10d import (
    Backend,
    PrefixStore,
    _new_process_group_helper,
    _world,
    default_pg_timeout,
    rendezvous,
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def join_group(port, name, world, rank):
    """Joins a group as SGLang's init_custom_process_group does; rank 0 hosts the store."""
    address = f"tcp://127.0.0.1:{port}"
    store, rank, world = next(rendezvous(address, rank, world, timeout=default_pg_timeout))
    store.set_timeout(default_pg_timeout)
    group, _ = _new_process_group_helper(
        world,
        rank,
        [],
        Backend("nccl"),
        PrefixStore(name, store),
        group_name=name,
        backend_options=None,
        timeout=default_pg_timeout,
    )
    _world.pg_group_ranks[group] = {i: i for i in range(world)}
    return group
