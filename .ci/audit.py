"""Look pinned packages up in the database of vulnerabilities: `audit.py constraints.txt`.

Exits with 1 if one is known to be vulnerable, with 0 if none is or if there is nobody to ask; says which.
"""

import json
import subprocess
import sys
from typing import Any


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """Say what pip-audit's report means.

    :return: exit code and text.
    """
    packages = report["dependencies"]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    found = [(each, flaw) for each in packages for flaw in each.get("vulns", [])]
    lines = []
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"])
        until = f"fixed in {fixed}" if fixed else "not fixed yet"
        lines.append(f"{package['name']} {package['version']}: {flaw['id']}, {until}")
    if len(unknown) == len(packages):
        lines.append("no audit: this index tells nothing about vulnerabilities")
    else:
        lines.append(f"{len(packages) - len(unknown)} packages audited, {len(found)} vulnerabilities")
        if unknown:
            lines.append("not in the database: " + ", ".join(unknown))
    return (1 if found else 0), "\n".join(lines)


def main() -> int:
    """Ask, and print what is found."""
    ask = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format=json"]
    done = subprocess.run([*ask, "-r", sys.argv[1]], capture_output=True, text=True, timeout=300, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"no audit: {reason}")
        return 0
    code, text = verdict(report)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
