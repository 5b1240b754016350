"""The program in docs/bundle.md runs as it stands, in a process without paraexport."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from paraexport.bundle import Bundle
from tests.conftest import TEST_IMAGES


def test_the_program_for_onnxruntime_alone_labels_images(digits: Bundle, tmp_path: Path) -> None:
    document = Path("docs/bundle.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    assert "paraexport" not in program
    (tmp_path / "reader.py").write_text(program, encoding="utf-8")
    for digit in ("4", "7"):
        picture = min((TEST_IMAGES / digit).glob("*.png"))
        done = subprocess.run(
            [sys.executable, tmp_path / "reader.py", digits.path, picture], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.returncode) == (f"{digit}\n", 0), done.stderr
