"""Several processes on one job: which is which, what they add up, and how the failure of one ends
all.

Processes are called ranks, as torchrun and MPI call them. Every rank runs the same program; what
they have in common goes through the methods of `Ranks`, which do nothing for a rank that is alone.
Bare `torch.distributed`: gloo between processors, NCCL between GPUs.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kinesphere.errors import InputError, KinesphereError
from kinesphere.launch_environment import LaunchEnvironment, find_launch_environment
from kinesphere.runtime import InterruptedRunError, choose_device, console

if TYPE_CHECKING:  # torch takes seconds to import, and the help page needs this module
    import torch

T = TypeVar("T")
_PATIENCE_TO_MEET = timedelta(minutes=10)
# The first rank may work alone for long; who fails says so, and nobody waits for it.
_PATIENCE = timedelta(days=2)
_VALUES_AT_ONCE = 1 << 24
_SECONDS_BETWEEN_LOOKS = 0.5
# after an interrupt others may have a checkpoint to write
_SECONDS_FOR_GOODBYE = {"exit code": 15.0, "interrupt": 60.0}
_SECONDS_FOR_SURVIVORS = 3.0
_SIGNAL_EXIT_CODE = 128


class LostRankError(KinesphereError):
    """Another rank has gone without a word."""

    def __init__(self) -> None:
        problem = (
            "another rank has gone without a word, as the kernel or the queue ends "
            "processes (memory, time)"
        )
        super().__init__(f"{problem}. The same command continues from the last checkpoint")


@dataclass(frozen=True)
class Ranks:
    """The processes that share some work, as one of them sees them; alone by default.

    Every rank of a group has to call its methods, in the same order.

    Parameters
    ----------
    rank, size
        Number of this process within the group, from 0, and of all in the group.
    local
        Number of this process on its machine.
    members
        (size,) their numbers among all processes.
    group
        torch's handle; none: all processes.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    members: tuple[int, ...] = (0,)
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this rank is the first of the group, which writes the group's files."""
        return self.rank == 0

    @property
    def is_first_of_all(self) -> bool:
        """Whether this rank is the first of all processes."""
        return self.members[self.rank] == 0

    def choose_device(self, name: str = "auto") -> torch.device:
        """Turn the user's choice of device into one: on GPUs, each rank of a machine takes the
        next.

        Raises
        ------
        InputError
            As `runtime.choose_device`, and where several ranks would have to share a GPU.
        """
        device = choose_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if ":" in name:
            problem = f"{name} is one GPU, and there are {self.size} ranks"
            raise InputError(
                "--device", problem, "Use cuda, or leave it out: each rank takes a GPU of its own"
            )
        import torch

        n_gpus = torch.cuda.device_count()
        if self.local >= n_gpus > 1:
            problem = f"rank {self.rank} is number {self.local + 1} on a machine with {n_gpus} GPUs"
            raise InputError("--device", problem, "Start no more ranks there than it has GPUs")
        device = torch.device(
            "cuda", self.local if n_gpus > 1 else 0
        )  # Slurm may show each task only its own
        torch.cuda.set_device(device)
        return device

    def share(self, rows: Any) -> Any:
        """Take this rank's rows of an array or tensor: every `size`-th, so that no two shares
        differ by more than 1.
        """
        return rows[self.rank :: self.size]

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the ranks; small ones travel together, large ones in
        pieces.
        """
        if self.size == 1:
            return
        import torch.distributed as dist

        _exchange(tensors, lambda values: dist.all_reduce(values, group=self.group))

    def copy_first_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by that of the first rank."""
        if self.size == 1:
            return
        import torch.distributed as dist

        _exchange(tensors, lambda values: dist.broadcast(values, self.members[0], group=self.group))

    def largest(self, *values: float) -> tuple[float, ...]:
        """Return the largest of each number over the ranks."""
        if self.size == 1:
            return values
        import torch
        import torch.distributed as dist

        found = torch.tensor(values, dtype=torch.float64)
        with _in_contact():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return tuple(found.tolist())

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.largest(0.0)

    def broadcast(self, value: T, source: int = 0) -> T:
        """Return the value that rank `source` of the group gave; it travels pickled."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        box = [value]
        with _in_contact():
            dist.broadcast_object_list(
                box, self.members[source], group=self.group, device=torch.device("cpu")
            )
        return box[0]

    def from_first(self, work: Callable[[], T]) -> T:
        """Let the first rank do what is done once, and return what it found; its error ends all
        ranks.
        """
        return self.broadcast(work() if self.is_first else None)  # type: ignore[return-value]

    def split(self, n_teams: int) -> list[Team]:
        """Divide the ranks into teams of neighbours; one team, or more teams than ranks, are all of
        them.
        """
        if n_teams == 1 or self.size < n_teams:
            return [Team(0, self)] * n_teams
        parts = np.array_split(np.arange(self.size), n_teams)
        return [Team(int(part[0]), self._subset(part.tolist())) for part in parts]

    def on_this_machine(self) -> Ranks:
        """Return the ranks that share this machine's memory."""
        if self.size == 1:
            return self
        hosts = [self.broadcast(socket.gethostname(), source) for source in range(self.size)]
        machines = [
            [rank for rank in range(self.size) if hosts[rank] == host]
            for host in dict.fromkeys(hosts)
        ]
        groups = [
            self._subset(machine) for machine in machines
        ]  # all ranks take part in making every group
        return next(group for group in groups if group is not None)

    def _subset(self, ranks: Sequence[int]) -> Ranks | None:
        """Make a group of some ranks; none where this is not one of them."""
        import torch.distributed as dist

        members = tuple(self.members[rank] for rank in ranks)
        with _in_contact():
            group = dist.new_group(list(members), timeout=_PATIENCE)
        return (
            Ranks(ranks.index(self.rank), len(ranks), self.local, members, group)
            if self.rank in ranks
            else None
        )


ALONE = Ranks()


@dataclass(frozen=True)
class Team:
    """Some of the ranks of a group: the number of the first among them, and the team as its members
    see it.
    """

    first: int
    ranks: Ranks | None


def _exchange(tensors: Sequence[torch.Tensor], operation: Callable[[torch.Tensor], object]) -> None:
    """Apply a collective operation in place: to small tensors of one kind as one, to large ones
    piece by piece.
    """
    import torch

    def kind(tensor: torch.Tensor) -> str:
        return f"{tensor.device} {tensor.dtype}"

    with _in_contact(), torch.no_grad():
        for large in (tensor for tensor in tensors if tensor.numel() > _VALUES_AT_ONCE):
            for piece in large.view(-1).split(_VALUES_AT_ONCE):
                operation(piece)
        small = [tensor for tensor in tensors if tensor.numel() <= _VALUES_AT_ONCE]
        for _, alike in groupby(sorted(small, key=kind), kind):
            together = list(alike)
            flat = torch.cat([tensor.reshape(-1) for tensor in together])
            operation(flat)
            for tensor, values in zip(
                together, flat.split([t.numel() for t in together]), strict=True
            ):
                tensor.copy_(values.view_as(tensor))


@contextmanager
def _in_contact() -> Iterator[None]:
    """Say what it means when a collective operation fails: a rank died without leaving notice."""
    try:
        yield
    except RuntimeError as error:  # every error of torch.distributed is one
        raise LostRankError from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other ranks, where there are any, for as long as the context lasts.

    Ranks other than the first say nothing on the terminal. Where one fails, its error leaves this
    context, to be told; the others leave with its exit code and no word, also from the middle of
    their work. An interrupt of one is passed on to all, and each stops where it is safe.

    Yields
    ------
    Ranks
        All of them.

    Raises
    ------
    KinesphereError
        If they do not find one another.
    """
    environment = find_launch_environment()
    if environment.size == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    store = _meet(environment)
    backend = (
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    )
    within = PrefixStore("ranks", store)
    dist.init_process_group(
        backend, store=within, rank=environment.rank, world_size=environment.size, timeout=_PATIENCE
    )
    notices = _Notices(PrefixStore("notices", store), environment)
    console.quiet = environment.rank > 0
    ranks = Ranks(
        environment.rank, environment.size, environment.local, tuple(range(environment.size))
    )
    try:
        notices.watch()
        yield ranks
        ranks.barrier()  # nobody leaves while another may still fail
        notices.leave()
        ranks.barrier()  # nor takes the store away while another looks into it
    except BaseException as error:
        notices.tell(error)
        console.quiet = False  # the one that failed first says why, whichever it is
        raise
    finally:
        notices.leave()
    dist.destroy_process_group()


def _meet(environment: LaunchEnvironment) -> Any:
    """Connect to the store through which ranks find one another; torchrun provides it, else the
    first rank does.
    """
    from torch.distributed.rendezvous import rendezvous

    os.environ.update(MASTER_ADDR=environment.address, MASTER_PORT=str(environment.port))
    try:
        store, _, _ = next(
            iter(
                rendezvous("env://", environment.rank, environment.size, timeout=_PATIENCE_TO_MEET)
            )
        )
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{environment.address}:{environment.port}"
        why = " ".join(str(error).split())
        remedy = (
            "Check that all were started, or set MASTER_ADDR and MASTER_PORT to a host "
            "and port all can reach"
        )
        raise InputError(
            where, f"the {environment.size} ranks did not meet here ({why})", remedy
        ) from error
    store.set_timeout(_PATIENCE)
    return store


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KinesphereError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return _SIGNAL_EXIT_CODE + signal.SIGINT
    code = getattr(error, "code", 1)
    return code if isinstance(code, int) else 1


class _Notices:
    """Where the first rank to fail says so, and the others look for it, wherever they wait or work.

    Parameters
    ----------
    store
        Shared by all ranks, and gone with the first unless torchrun keeps it.
    environment
        Which rank this is.
    """

    def __init__(self, store: Any, environment: LaunchEnvironment) -> None:
        self._store = store
        self._environment = environment
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def watch(self) -> None:
        """Start looking."""
        self._thread.start()

    def leave(self) -> None:
        """Stop looking."""
        self._left.set()
        self._thread.join()

    def tell(self, error: BaseException) -> None:
        """Say why this rank leaves, and wait until the others know; where they do already, leave
        without a word.
        """
        self.leave()
        signal_number = self._signal_behind(error)
        name, code = (
            ("interrupt", signal_number) if signal_number else ("exit code", _exit_code(error))
        )
        try:
            is_first = self._store.add(f"{name}s", 1) == 1
        except RuntimeError:  # the store went with the rank that failed, which has said why
            raise SystemExit(1) from None
        with suppress(RuntimeError):
            if is_first:
                self._store.set(name, str(code))
                is_loss = isinstance(error, LostRankError)  # who is lost will not see it
                self._await_all(_SECONDS_FOR_SURVIVORS if is_loss else _SECONDS_FOR_GOODBYE[name])
        if not is_first:
            raise SystemExit(self._follow(name))

    def _signal_behind(self, error: BaseException) -> int:
        """Return the signal that this rank, or the one it has lost, was stopped by; else 0."""
        if isinstance(error, InterruptedRunError):
            return error.exit_code - _SIGNAL_EXIT_CODE
        with suppress(RuntimeError):
            if isinstance(error, LostRankError) and self._store.check(["interrupt"]):
                return int(self._store.get("interrupt"))
        return 0

    def _look(self) -> None:
        while not self._left.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                if self._store.check(["exit code"]):
                    os._exit(
                        self._follow("exit code")
                    )  # the main thread may be waiting for the rank that failed
                if self._store.check(["interrupt"]):
                    _interrupt_self(int(self._store.get("interrupt")))
            except RuntimeError:
                os._exit(1)

    def _follow(self, name: str) -> int:
        """Say that the notice has been seen, and return the exit code that it asks for."""
        code = 1
        with suppress(RuntimeError):
            self._store.wait([name], timedelta(seconds=_SECONDS_FOR_GOODBYE[name]))
            code = int(self._store.get(name)) + (_SIGNAL_EXIT_CODE if name == "interrupt" else 0)
            self._store.add("seen", 1)
            if self._environment.rank == 0:  # the store may end with this process
                self._await_all(_SECONDS_FOR_GOODBYE[name])
        return code

    def _await_all(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._store.add("seen", 0) < self._environment.size - 1 and time.monotonic() < until:
            time.sleep(0.05)


def _interrupt_self(number: int) -> None:
    """Raise the flag of `runtime.interrupts`, where one is there that has not risen yet."""
    if signal.getsignal(number) not in {signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler}:
        os.kill(os.getpid(), number)
