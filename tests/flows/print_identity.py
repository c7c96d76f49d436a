"""Prints its user and folders as one JSON line, and writes a file into each of them."""

import json
import os
from pathlib import Path

from prefect import flow
from prefect.settings import get_current_settings


@flow(log_prints=True)
def print_identity() -> None:
    folders = {
        "home": Path.home(),
        "prefect_home": get_current_settings().home,
        "working_directory": Path.cwd(),
    }
    for folder in folders.values():
        Path(folder, "written").write_text("by the flow")
    ids = {"user": os.getuid(), "group": os.getgid(), "file_groups": os.getgroups()}
    volumes = {f"volume_of_{name}": volume(folder) for name, folder in folders.items()}
    print(json.dumps(ids | {name: str(path) for name, path in folders.items()} | volumes))


def volume(folder: Path) -> str:
    """Return the mount point of the folder's volume; `/` if it is in the image's layers."""
    return next(str(path) for path in (folder, *folder.parents) if os.path.ismount(path))
