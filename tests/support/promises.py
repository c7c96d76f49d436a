"""Within how many seconds a status shows what happened (docs/status.md), for a loaded machine."""

from __future__ import annotations

MARGIN_SECONDS = 8  # for a pause of a few seconds
AT_ONCE = 5 + MARGIN_SECONDS
SOON = 15 + MARGIN_SECONDS
IN_HALF_A_MINUTE = 30 + MARGIN_SECONDS
