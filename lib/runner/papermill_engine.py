"""Executes one notebook with papermill, in a kernel that already runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.log import logger

from lib.files import write_atomic

NAME = "runbook"
READY = 120  # seconds that a kernel may take to start
for one in (logger, logging.getLogger("asyncio")):  # after Ctrl-C, asyncio tells of nbclient's tasks that are left
    one.setLevel(logging.CRITICAL)  # the caller reports what goes wrong, in one sentence


def execute(
    notebook: Path,
    output: Path,
    values: dict,
    kernel: AsyncKernelManager,
    scrub: Callable[[dict], None],
    cell_timeout: int,
) -> tuple[str, str]:
    """Execute a notebook and keep the executed copy, whether or not a cell raises.

    Args:
        notebook: the notebook's path; papermill writes it into the copy, so it is relative.
        output: the path of the executed copy, saved before each cell of code and at the end.
        values: parameters by name; the notebook gets the parameters that it declares.
        kernel: the kernel, which ends with the notebook.
        scrub: redacts a cell's outputs in place, before they are saved.
        cell_timeout: seconds that one cell may take.

    Returns:
        The class and the text of the exception that ended the notebook, ("", "") if none did.
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
            "The kernel died. Look at the last cell that ran and at this machine's memory, then run the step again."
        )
    except CellTimeoutError:
        return "CellTimeoutError", (
            f"A cell took longer than {cell_timeout} s. Look at the last cell that ran, then run the step again."
        )
    return "", ""


def declared(notebook: Path, values: dict) -> dict:
    """Return the values whose names the cell tagged `parameters` declares, and always `env`."""
    known = papermill.inspect_notebook(str(notebook))
    return {name: value for name, value in values.items() if name == "env" or name in known}


class Engine(NBClientEngine):
    """papermill's own engine, but in a `kernel` that already runs; it ends the kernel afterwards."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        kernel: AsyncKernelManager,
        scrub: Callable[[dict], None],
        execution_timeout: int | None = None,
        **_: Any,
    ) -> Any:
        """Execute the notebook of papermill's manager `nb_man`; papermill calls this by name."""
        output, nb_man.output_path = nb_man.output_path, None  # papermill would save each cell twice, texts too
        client = _Client(
            nb_man,
            km=kernel,
            kernel_name=kernel_name,
            scrub=scrub,
            save=lambda: write_atomic(Path(output), nbformat.v4.writes(nb_man.nb)),
            timeout=execution_timeout,
            startup_timeout=READY,
            shutdown_kernel="immediate",
            log=logger,
        )
        try:
            return client.execute(cleanup_kc=True)
        finally:
            nb_man.output_path = output


class _Client(PapermillNotebookClient):
    def __init__(
        self, nb_man: Any, *, scrub: Callable[[dict], None], save: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(nb_man, **options)
        self._scrub, self._save = scrub, save

    def execute_cell(self, cell: Any, index: int, **options: Any) -> Any:
        if cell.cell_type != "code":
            return cell
        self._save()
        try:
            return super().execute_cell(cell, index, **options)
        except CellExecutionError:
            raise
        except BaseException as problem:  # a dead kernel, a time-out, Ctrl-C: papermill would call the cell completed
            text = str(problem).split("\n")[0]
            cell.outputs.append(nbformat.v4.new_output("error", ename=type(problem).__name__, evalue=text))
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self._scrub(cell)


papermill_engines.register(NAME, Engine)
