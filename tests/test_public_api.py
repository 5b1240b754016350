"""What `import paraexport` offers, and what it must not cost."""

import json
import subprocess
import sys

import paraexport

PUBLIC = {
    *("Engine", "EngineOptions", "Options", "ParaFormer", "Prediction", "Spec"),
    *("build", "errors", "load", "optimize", "validate"),
}


def loaded_after(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `code`."""
    script = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    return set(json.loads(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout))


def test_the_public_names_are_these_and_exist() -> None:
    assert set(paraexport.__all__) == PUBLIC
    assert all(getattr(paraexport, name) for name in PUBLIC)
    assert set(dir(paraexport)) == PUBLIC | {"__version__"}


def test_importing_the_package_imports_nothing_else() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "numpy", "PIL", "click", "rich", "msgspec"}
    assert not loaded_after("import paraexport") & heavy


def test_importing_the_command_line_and_build_imports_neither_torch_nor_onnx() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "onnxscript"}
    assert not loaded_after("import paraexport.cli; from paraexport import build, load") & heavy
