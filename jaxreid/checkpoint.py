"""Checkpoints of a run: the last ones and the best by validation, written in the background."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxreid import hosts, integrity, paths, room
from jaxreid.typing import PyTree

WHICH = ("best", "last")
FOLDER = "checkpoints"


class SaveFailedError(OSError):
    """A checkpoint could not be written."""


class _Deleter:
    """Deletes like another, but takes the checksums first.

    So what a kill in the midst of it leaves is not taken for a checkpoint that lost a file.
    """

    def __init__(self, inner: Any, directory: epath.Path) -> None:
        self._inner, self._directory = inner, directory

    def delete(self, step: int) -> None:
        if hosts.is_first():
            integrity.unseal(self._directory / str(step))
        self._inner.delete(step)

    def delete_steps(self, steps: Sequence[int]) -> None:
        for step in steps:
            self.delete(step)

    def close(self) -> None:
        self._inner.close()


class _Manager(ocp.CheckpointManager):
    def __init__(self, directory: epath.Path, **fields: Any) -> None:
        super().__init__(directory, **fields)
        inner: Any = vars(self)["_checkpoint_deleter"]
        self._checkpoint_deleter = _Deleter(inner, directory)

    def reached_preemption(self, step: int) -> bool:
        # The loop asks JAX itself. Orbax would ask from its own thread, too, with the number of an
        # earlier step, and confuse the count by which processes agree on the step to stop at.
        return False


class Checkpoints:
    """The folder ``checkpoints`` of a run.

    A checkpoint appears by one rename, in a bucket by one object, after its last byte and its
    checksums; one that a kill cut short is never seen as such. Kept are the last ones and the best
    one of those that carry a score. A save that fails, in the background or not, is told by the
    next `check`, `save` or `wait`.

    Args:
      workdir: the run's folder.
      create: make the folder where there is none (a run that trains).
      keep: how many of the last ones.
    """

    def __init__(
        self, workdir: str | os.PathLike[str], *, create: bool = False, keep: int = 1
    ) -> None:
        self.directory = paths.absolute(paths.as_path(workdir, "--workdir")) / FOLDER
        if not create and not self.directory.is_dir():
            raise ValueError(
                f"{str(workdir)!r} holds no checkpoints; --workdir takes the folder of a run that "
                "`jaxreid train` has written."
            )
        policies = [
            LatestN(n=keep),
            BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
        ]
        options = ocp.CheckpointManagerOptions(
            create=create,
            best_fn=_score,
            preservation_policy=AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            read_only=not create,
        )
        handlers = {
            "variables": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        }
        self._manager = _Manager(self.directory, options=options, item_handlers=handlers)
        self._saving, self._size = 0, 0

    def save(
        self,
        step: int,
        *,
        variables: PyTree,
        optimizer: PyTree,
        meta: dict[str, Any],
        score: float | None = None,
    ) -> None:
        """Starts writing a checkpoint; the arrays may be donated as soon as this returns.

        Args:
          step: number of finished steps, the checkpoint's name.
          variables: ``params`` and ``batch_stats``, all that inference needs.
          optimizer: what only training needs.
          meta: what JSON can hold: stage, epoch.
          score: validation Rank-1, None where the step was not validated.

        Raises:
          ValueError: this step is there already.
          SaveFailedError: it cannot be written, or the one before could not.
          RuntimeError: another process of the run was lost meanwhile.
        """
        if step in self._manager.all_steps():
            raise ValueError(
                f"step {step} is saved already in {self.directory}; a run saves each step once."
            )
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(variables),
            optimizer=ocp.args.StandardSave(optimizer),
            meta=ocp.args.JsonSave(meta),
        )
        self.wait()
        self._saving = step
        self._size = sum(leaf.nbytes for leaf in jax.tree.leaves((variables, optimizer)))
        room.warn_if_short(self.directory, self._size)
        metrics = None if score is None else {"score": score}
        with self._explained():
            if not self._manager.save(step, args=items, metrics=metrics):
                raise SaveFailedError(f"{self.directory} holds a later step than {step}.")

    def _seal(self) -> None:
        """Writes checksums; called when all is written, before the checkpoint gets its name."""
        final = self.directory / str(self._saving)
        unfinished = list(self.directory.glob(f"{self._saving}{integrity.UNFINISHED}*"))
        for folder in unfinished or [final]:
            integrity.seal(folder)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SaveFailedError:
            raise
        except Exception as error:  # whatever the threads of Orbax have met
            full = any(map(room.is_full, _with_causes(error)))
            if hosts.joined() and not full and _tells_of_a_loss(error):
                raise RuntimeError(
                    f"in the save of step {self._saving}: {type(error).__name__}: {error}"
                ) from error
            self._manager.reload()  # it has forgotten what the failed one would have replaced
            there = room.free(self.directory)
            reason = "the disk is full" if full else f"{type(error).__name__}: {error}".rstrip(".")
            before = (
                "There is none before it"
                if self.last is None
                else (f"The one before it, step {self.last}, is whole")
            )
            raise SaveFailedError(
                f"the checkpoint of step {self._saving} was not written to {self.directory}: "
                f"{reason}. It takes up to {room.mib(self._size)}"
                + (f", and {room.mib(there)} are free there. " if there is not None else ". ")
                + f"{before}. Make room, or mend what is wrong with the folder, and run the same "
                "command, which goes on from there."
            ) from error

    def restore(self, step: int, *, variables: PyTree, optimizer: PyTree) -> tuple[PyTree, PyTree]:
        """Reads what training needs to go on.

        Args:
          step: one of those kept.
          variables: tree of `jax.ShapeDtypeStruct` that carry shardings.
          optimizer: likewise.

        Returns:
          The two trees as arrays.
        """
        items = ocp.args.Composite(
            variables=ocp.args.StandardRestore(variables),
            optimizer=ocp.args.StandardRestore(optimizer),
        )
        found = self._manager.restore(step, args=items)
        return found["variables"], found["optimizer"]

    def restore_variables(self, step: int, placement: jax.sharding.Sharding) -> PyTree:
        """Reads ``params`` and ``batch_stats`` alone, each leaf placed alike.

        Raises:
          ValueError: a file is not as it was written.
        """
        return self.restore_item(step, "variables", placement)

    def restore_item(self, step: int, item: str, placement: jax.sharding.Sharding) -> PyTree:
        """Reads ``variables`` or ``optimizer``, as it was saved, each leaf placed alike.

        Raises:
          ValueError: a file is not as it was written.
        """
        if wrong := integrity.damage(self.directory / str(step), item):
            raise ValueError(
                f"checkpoint {self.directory / str(step)} is damaged: {wrong}. Take the other one "
                f"of --checkpoint {', '.join(WHICH)}, or restore it from a copy."
            )
        metadata = self._manager.item_metadata(step)[item]
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement), metadata
        )
        items = ocp.args.Composite(**{item: ocp.args.StandardRestore(like)})
        return self._manager.restore(step, args=items)[item]

    def meta(self, step: int) -> dict[str, Any]:
        """Reads what was saved beside the state."""
        items = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(step, args=items)["meta"]

    @property
    def last(self) -> int | None:
        """The newest step kept, None if there is none."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step with the best score, None where none has a score."""
        scored = [step for step in self._manager.all_steps() if self._manager.metrics(step)]
        return self._manager.best_step() if scored else None

    def find(self, which: str) -> int:
        """Returns the step of the ``best`` or the ``last`` checkpoint.

        Raises:
          ValueError: another word, or there is no such checkpoint yet.
        """
        if which not in WHICH:
            raise ValueError(f"--checkpoint is {which!r}; it takes one of {', '.join(WHICH)}.")
        step = self.best if which == "best" else self.last
        if step is None and self.last is not None and self.meta(self.last).get("finished"):
            step = self.last  # never validated, such as weights of another program
        if step is None and self.last is not None:
            raise ValueError(
                f"{self.directory} has no {which!r} checkpoint yet, as none was validated: take "
                "--checkpoint last, or go on with the run."
            )
        if step is None:
            raise ValueError(
                f"{self.directory} has no {which!r} checkpoint yet: the run was stopped before its "
                "first one. Run the same `jaxreid train` command again to go on."
            )
        return step

    def wait(self) -> None:
        """Returns when everything begun is on disk.

        Raises:
          SaveFailedError: it could not be written.
          RuntimeError: another process of the run was lost meanwhile.
        """
        with self._explained():
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Looks whether a save that has ended failed; waits for none.

        Raises:
          SaveFailedError: it did.
          RuntimeError: another process of the run was lost meanwhile.
        """
        if not self._manager.is_saving_in_progress():
            self.wait()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for end in (self._manager.wait_until_finished, self._manager.close):
            try:
                with self._explained():
                    end()
            except (SaveFailedError, RuntimeError) as failed:
                if error is None:
                    error = failed
                else:  # what it follows from, as a rule
                    logging.error("%s", failed)
        if error is not None and kind is None:
            raise error


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from, or in the handling of."""
    known: BaseException | None = error
    while known is not None:
        yield known
        known = known.__cause__ or known.__context__


def _tells_of_a_loss(error: BaseException) -> bool:
    """Whether waiting for the other processes failed, and not because this one met an error.

    Orbax makes a TimeoutError, which is an OSError, of every failure at a barrier.
    """
    at_barrier = False
    for known in _with_causes(error):
        if isinstance(known, OSError) and not isinstance(known, TimeoutError):
            return False
        at_barrier |= isinstance(known, jax.errors.JaxRuntimeError)
        at_barrier |= isinstance(known, TimeoutError) and "barrier" in str(known)
    return at_barrier


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
