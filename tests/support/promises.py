"""How many seconds the operator may take (docs/status.md, guarantees.md) on a loaded machine."""

from __future__ import annotations

FILLED_SECONDS = 2 + 4  # until a slot or room that frees is used (docs/guarantees.md)
AT_ONCE = 5 + 4  # longer ones would pass without the request or watch that reveals a fault
MARGIN_SECONDS = 8  # for a pause of a few seconds
SOON = 15 + MARGIN_SECONDS
IN_HALF_A_MINUTE = 30 + MARGIN_SECONDS
