"""The commands of a man page, as one script for bash. Usage: example.py PAGE.7

Containers are not there in a test: `docker run` and `docker kill` become the functions triton_run and
triton_kill, and models are written for the Python backend. Ports are moved away from those of others.
"""

import re
import sys

for block in open(sys.argv[1]).read().split(".EX\n")[1:]:
    script = block.split(".EE")[0]
    for written, meant in [(r"\-", "-"), (r"\(aq", "'"), (r"\e", "\\")]:
        script = script.replace(written, meant)
    script = re.sub(r"docker run .*--name \S+-(\d) (?:.*\\\n).*", r"triton_run \1", script)
    script = re.sub(r"docker kill \S+-(\d)", r"triton_kill \1", script)
    script = script.replace("--triton models", "--triton models --backend python")
    script = script.replace("127.0.0.1:8", "127.0.0.1:28")
    print(script)
