"""Suggests the right word for those of other tools, such as `--half`, `--heads 4`, `export` or `--target cuda`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

import click

from paraexport.checkpoint.given import FIELDS

COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("export", "convert", "compile", "trace", "quantize", "quantise"), "build"),
    **dict.fromkeys(("run", "infer", "inference", "classify"), "predict"),
    **dict.fromkeys(("check", "verify", "test", "compare", "val", "eval", "evaluate"), "validate"),
    **dict.fromkeys(("info", "show", "summary", "ls"), "inspect"),
    **dict.fromkeys(("simplify", "rewrite", "fuse", "slim"), "optimize"),
    **dict.fromkeys(("env", "version", "checks"), "doctor"),
    **dict.fromkeys(("benchmark", "time", "profile", "perf", "latency"), "bench"),
    **dict.fromkeys(("html", "page", "summarise", "summarize", "plot", "visualise", "visualize"), "report"),
}
OPTIONS: Mapping[str, str] = {
    **{f"--{field.replace('_', '-')}": f"--spec {field}=VALUE" for field in FIELDS},
    **{f"--{field}": f"--spec {field}=VALUE" for field in FIELDS},
    **dict.fromkeys(("--imgsz", "--img-size", "--imgs", "--size", "--input-size"), "--spec image_size=VALUE"),
    **dict.fromkeys(("--num-heads", "--num_heads", "--nhead"), "--spec heads=VALUE"),
    **dict.fromkeys(("--int8", "--quantize", "--quantise"), "--precision int8 --calib IMAGES"),
    **dict.fromkeys(("--half", "--fp16", "--float16"), "--precision fp16"),
    **dict.fromkeys(("--bf16", "--bfloat16"), "--precision bf16"),
    **dict.fromkeys(("--fp32", "--float32"), "--precision fp32"),
    **dict.fromkeys(("--device", "--format", "--backend", "--provider", "--engine-type", "--runtime"), "--target NAME"),
    **dict.fromkeys(("--batch", "--batch-size", "--batch_size"), "--max-batch N"),
    **dict.fromkeys(("--out", "--output-dir", "--save", "--name"), "-o PATH"),
    **dict.fromkeys(("--calibration", "--calib-data", "--calibration-data"), "--calib IMAGES"),
    **dict.fromkeys(("--dataset", "--val", "--images"), "--data IMAGES"),
    **dict.fromkeys(("--tolerance", "--atol", "--rtol"), "--limit parity=VALUE"),
}  # fmt: skip
"""The option of another tool -> the option here."""
NOTES: Mapping[str, str] = {
    **dict.fromkeys(("--ckpt", "--checkpoint", "--model", "--weights-file"), "give the path alone, without an option"),
    **dict.fromkeys(("--source", "--image", "--input", "-i"), "give the path alone, without an option"),
    **dict.fromkeys(("--dynamic", "--dynamic-axes", "--dynamic-batch"), "not needed: the batch is always free"),
    **dict.fromkeys(("--simplify", "--optimize"), "not needed: the graph is always simplified"),
    "--opset": "not needed: the target decides",
    **dict.fromkeys(
        ("--verbose", "-v"),
        "not needed: progress is always printed; PARAEXPORT_TRACEBACK=1 shows where an error comes from",
    ),
}
"""Options of other tools that have no counterpart."""
VALUES: Mapping[str, Mapping[str, str]] = {
    "--target": {
        **dict.fromkeys(("cpu", "ort", "onnx", "onnxruntime-cpu"), "onnxruntime"),
        **dict.fromkeys(("cuda", "gpu", "onnxruntime-gpu"), "onnxruntime-cuda or tensorrt"),
        **dict.fromkeys(("trt", "engine"), "tensorrt"),
        **dict.fromkeys(("rtx", "trt-rtx"), "tensorrt-rtx"),
        **dict.fromkeys(("ov", "intel"), "openvino"),
    },
    "--precision": {
        **dict.fromkeys(("half", "float16", "f16", "16"), "fp16"),
        **dict.fromkeys(("bfloat16", "bf"), "bf16"),
        **dict.fromkeys(("float32", "full", "f32", "32", "float"), "fp32"),
        **dict.fromkeys(("w8a8", "uint8", "i8", "8", "int", "quantized", "quantised"), "int8"),
    },
}
"""For each option: the name of a value in other tools -> its name here."""


def hint(error: click.ClickException) -> str | None:
    """Suggest what to write instead of an unknown option or value; None if nothing is similar."""
    if isinstance(error, click.exceptions.NoSuchOption):
        return option_hint(error.option_name.lower(), error.ctx)
    if isinstance(error, click.BadParameter) and error.param is not None and isinstance(error.param.type, click.Choice):
        option = error.param.opts[0]
        names = (
            name for word, name in VALUES.get(option, {}).items() if error.message.lower().startswith(f"'{word}' ")
        )
        return next((f"write {option} {name}" for name in names), None)
    return None


def option_hint(name: str, context: click.Context | None) -> str | None:
    """Suggest an option of this command, or name the command that has it."""
    if name in NOTES:
        return NOTES[name]
    wanted = OPTIONS.get(name, name)
    option = wanted.split()[0]
    if name in OPTIONS and context is not None and option in flags(context.command):
        return f"write {wanted}"
    from paraexport.cli import COMMANDS as NAMES

    others = [command for command in NAMES if option in flags(command_of(command))]
    if not others:
        return None
    return f"{wanted if name in OPTIONS else option} is an option of {' and '.join(others)}"


def command_of(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"paraexport.cli.{name}").command
    return command


def flags(command: click.Command) -> set[str]:
    return {flag for param in command.params for flag in param.opts}


def command_hint(name: str, commands: tuple[str, ...]) -> str | None:
    """Return the command that an unknown name probably means, or None."""
    if name.lower() in COMMANDS:
        return COMMANDS[name.lower()]
    return next(iter(difflib.get_close_matches(name.lower(), commands, 1)), None)
