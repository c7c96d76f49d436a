"""Says who it is and where, as one JSON line, and leaves a file in each of its folders."""

import json
import os
from pathlib import Path

from prefect import flow
from prefect.settings import get_current_settings


@flow(log_prints=True)
def settles() -> None:
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
    """Where the volume is mounted that the folder is on; `/` for none but the image's layers."""
    return next(str(path) for path in (folder, *folder.parents) if os.path.ismount(path))
