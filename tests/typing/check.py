"""Hold both type checkers to the claims: `claims.py` is clean, and in `mistakes.py` just the marked lines are errors.

python tests/typing/check.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DECORATED = 4
"""How far above a marked function its decorator may stand: a checker reports either of the two lines."""


def mypy(file: Path) -> set[int]:
    """Return the lines in which mypy finds an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {int(line) for line in re.findall(r":(\d+): error:", printed)}


def basedpyright(file: Path) -> set[int]:
    """Return the lines in which basedpyright finds an error, in strict mode."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "pyrightconfig.json"
        # An expression that stands for itself is how a mistake is written down, and no mistake.
        settings = {"typeCheckingMode": "strict", "include": [str(file)], "pythonVersion": "3.11"}
        quiet = (
            "reportUnusedExpression",
            "reportUnusedCallResult",
            "reportUnusedCoroutine",
            "reportUnnecessaryContains",
        )
        config.write_text(json.dumps({**settings, **dict.fromkeys(quiet, "none")}))
        command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(config)]
        printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    report = json.loads(printed)
    assert report["summary"]["filesAnalyzed"] == 1, report
    found = (one for one in report["generalDiagnostics"] if one["severity"] == "error")
    return {one["range"]["start"]["line"] + 1 for one in found}


def judged(file: Path, errors: set[int], checker: str) -> list[str]:
    """Return what is wrong: a marked line that was not found, or an error that nobody marked."""
    lines = file.read_text().splitlines()
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if "# mistake" not in line:
            continue
        near = range(number - DECORATED if "see the decorator" in line else number, number + 1)
        hit = errors & set(near)
        errors = errors - hit
        if not hit:
            wrong.append(f"{checker} finds nothing wrong in {file.name}:{number}: {line.strip()}")
    for number in sorted(errors):
        wrong.append(f"{checker} finds an error in {file.name}:{number}: {lines[number - 1].strip()}")
    return wrong


def main() -> int:
    """Check both files with both checkers."""
    wrong: list[str] = []
    for name in ("claims.py", "mistakes.py"):
        for checker in (mypy, basedpyright):
            wrong += judged(HERE / name, checker(HERE / name), checker.__name__)
    print("\n".join(wrong) or "every typed claim holds, and every mistake is found, in mypy and in basedpyright")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
