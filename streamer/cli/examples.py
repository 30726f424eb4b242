"""Examples at the end of each command's help page; a test gives every one of them to the parser."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("sonostream demo", "sonostream demo 'phantom:?lesion=benign&seed=5' --no-browser"),
    "run": (
        "sonostream run phantom:",
        "sonostream run /dev/video0 --source.region auto --source.capture_delay_ms 33",
        "sonostream run rtsp://scanner/live clip.mp4 --record.path 'study-{time}.mcap'",
        "sonostream run --config sonostream.toml --print-config",
    ),
    "view": (
        "sonostream view tcp://127.0.0.1:7070",
        "sonostream view --port 8080 --source left --no-browser",
    ),
    "record": (
        "sonostream record tcp://127.0.0.1:7070 study.mcap --seconds 60",
        "sonostream record tcp://127.0.0.1:7070 results.mcap --no-pictures",
    ),
    "replay": (
        "sonostream replay study.mcap --model new.onnx",
        "sonostream replay study.mcap --model old.onnx --save old.mcap",
        "sonostream replay study.mcap --model new.onnx --against old.mcap --json report.json",
    ),
    "extract": (
        "sonostream extract study.mcap --video study.mp4 --csv findings.csv --summary summary.html",
        "sonostream extract study.mcap --start 10 --end 25 --parquet findings.parquet",
        "sonostream extract study.mcap --dicom-seg dicom --dicom-source study.dcm",
    ),
    "train": ("sonostream train --data busi --out runs/first",),
    "evaluate": ("sonostream evaluate default --data busi",),
    "export": ("sonostream export runs/first/best.pt --output lesion.onnx",),
    "bench": ("sonostream bench live", "sonostream bench engines"),
    "models": ("sonostream models",),
    "doctor": ("sonostream doctor", "sonostream doctor --json"),
    "keys": (
        "sonostream keys new keys",
        "sonostream keys client keys display",
        "sonostream keys list keys",
    ),
    "licences": ("sonostream licences",),
    "schema": ("sonostream schema",),
}
"""Command -> what one may type."""


def epilog(name: str) -> str:
    """Return the text under a command's help."""
    lines = EXAMPLES.get(name, ())
    # A blank line keeps each on a line of its own.
    return "\n\n".join(["Examples:", *lines]) if lines else ""
