"""What a check found: written to disk after each result, and shown as a table at the end."""

import json
import os
import time


class Report:
    """Results by step, in `OUT/report.json` as they come.

    A result is *right* or *wrong*, or a figure that *reached* or *missed* a bar or has none; a step may
    have *failed*, or have been *skipped*. Wrong results and failed steps make the check fail.
    """

    def __init__(self, folder, about):
        self.path = os.path.join(folder, "report.json")
        self.begin = time.monotonic()
        self.step = None
        self.content = {**about, "results": []}
        self.write()

    def write(self):
        self.content["seconds"] = round(time.monotonic() - self.begin, 1)
        with open(self.path + ".tmp", "w") as file:
            json.dump(self.content, file, indent=1)
            file.write("\n")
        os.replace(self.path + ".tmp", self.path)

    def add(self, what, verdict, **more):
        seconds = round(time.monotonic() - self.begin, 1)
        result = {"step": self.step, "what": what, "verdict": verdict, "at": seconds, **more}
        self.content["results"].append(result)
        self.write()
        print(f"{seconds:7.1f} s  {self.line(result)}", flush=True)

    def check(self, what, right, **more):
        """A result that is right or wrong."""
        self.add(what, "right" if right else "wrong", **more)

    def figure(self, what, value, unit, bar=None, **more):
        """A measured number; one with a bar should be at least that."""
        verdict = "measured" if bar is None else "reached" if value >= bar else "missed"
        more = {"bar": bar, **more} if bar is not None else more
        self.add(what, verdict, value=float(f"{value:.5g}"), unit=unit, **more)

    def skip(self, what, why):
        self.add(what, "skipped", why=why)

    def count(self, verdict):
        return sum(result["verdict"] == verdict for result in self.content["results"])

    def failed(self):
        return self.count("wrong") + self.count("failed") > 0

    @staticmethod
    def line(result):
        value = f"{result['value']:.5g} {result['unit']}" if "value" in result else ""
        bar = f" (bar {result['bar']})" if "bar" in result else ""
        more = [result[key] for key in ("why", "detail") if key in result]
        return f"{result['step']}  {result['verdict']:<9}{result['what']:<58}{value}{bar}  {' '.join(more)}".rstrip()

    def table(self):
        about = ", ".join(f"{self.content[key]}" for key in ("card", "driver", "device") if self.content.get(key))
        verdicts = ("right", "wrong", "failed", "reached", "missed", "measured", "skipped")
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in verdicts)
        lines = [about, "", *map(self.line, self.content["results"]), "", counts]
        return "\n".join(lines) + "\n"
