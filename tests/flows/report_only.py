"""No flow, but a process that reports its run as `prefect flow-run execute` does, without Prefect's
import of some seconds: `command="python /flows/report_only.py"`."""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

PATH = "{PREFECT_API_URL}/flow_runs/{PREFECT__FLOW_RUN_ID}/set_state".format_map(os.environ)


def report(state: str) -> None:
    body = json.dumps({"state": {"type": state}}).encode()
    urlopen(Request(PATH, body, {"Content-Type": "application/json"})).close()


report("RUNNING")
time.sleep(float(sys.argv[1]) if sys.argv[1:] else 0)
report("COMPLETED")
