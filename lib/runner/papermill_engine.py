"""Runs one notebook through papermill, in a kernel that was started before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.log import logger

NAME = "runbook"
READY = 120  # seconds that a kernel may take to start
logger.setLevel(logging.CRITICAL)  # what goes wrong is raised, and told in one sentence


def execute(notebook: Path, output: Path, values: dict, kernel, scrub: Callable, cell_timeout: int) -> tuple[str, str]:
    """Run the notebook in `kernel`, with those of `values` that it declares; return (error's class, its text).

    Both are "" when no cell raised. The executed notebook is in `output` either way, saved after each cell, when
    `scrub(cell)` has cleaned it.
    """
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=declared(notebook, values),
            engine_name=NAME,
            kernel=kernel,
            scrub=scrub,
            progress_bar=False,
            autosave_cell_every=0,  # it would save a cell before it is scrubbed
            execution_timeout=cell_timeout,
        )
    except PapermillExecutionError as error:
        return error.ename, error.evalue
    except DeadKernelError:
        return "DeadKernelError", (
            "expected the kernel to live until the notebook's end, got its death; "
            "look at the last cell that ran and at this machine's memory, then run the step again."
        )
    except CellTimeoutError:
        return "CellTimeoutError", (
            f"expected each cell to end within {cell_timeout} s, got one still running; "
            "look at the last cell that ran, then run the step again."
        )
    return "", ""


def declared(notebook: Path, values: dict) -> dict:
    """Return those of the values whose names the cell tagged `parameters` declares; `env` always."""
    known = papermill.inspect_notebook(str(notebook))
    return {name: value for name, value in values.items() if name == "env" or name in known}


class Engine(NBClientEngine):
    """papermill's own engine, but in a `kernel` that is there already, which it ends afterwards."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, kernel, scrub, execution_timeout=None, **_):
        client = _Client(
            nb_man,
            km=kernel,
            kernel_name=kernel_name,
            scrub=scrub,
            timeout=execution_timeout,
            startup_timeout=READY,
            shutdown_kernel="immediate",
            log=logger,
        )
        return client.execute(cleanup_kc=True)


class _Client(PapermillNotebookClient):
    def __init__(self, nb_man, *, scrub: Callable, **options):
        super().__init__(nb_man, **options)
        self._scrub = scrub

    def execute_cell(self, cell, index, **options):
        try:
            return super().execute_cell(cell, index, **options)
        except CellExecutionError:
            raise
        except BaseException as problem:  # a dead kernel, a time-out, Ctrl-C: papermill would call the cell completed
            said = str(problem).split("\n")[0]
            cell.outputs.append(nbformat.v4.new_output("error", ename=type(problem).__name__, evalue=said))
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self._scrub(cell)


papermill_engines.register(NAME, Engine)
