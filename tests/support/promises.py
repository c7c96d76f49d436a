"""Within how many seconds a status shows what happened (docs/status.md), for a loaded machine."""

from __future__ import annotations

AT_ONCE = 5 + 4  # longer ones would pass without the request or watch that reveals a fault
MARGIN_SECONDS = 8  # for a pause of a few seconds
SOON = 15 + MARGIN_SECONDS
IN_HALF_A_MINUTE = 30 + MARGIN_SECONDS
