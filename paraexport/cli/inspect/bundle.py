"""Shows the contents of a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path

from paraexport.bundle import MANIFEST, REBUILD, Bundle, summary
from paraexport.bundle.records import Manifest
from paraexport.cli.output import emit_json, escaped
from paraexport.cli.render import print_sections, print_table
from paraexport.errors import BundleError, InputError
from paraexport.findings.words import size_text
from paraexport.model.scores import describe as scores_text
from paraexport.model.scores import recorded


def show(path: Path, *, branches: bool, as_json: bool) -> None:
    from paraexport.bundle import read_bundle, report

    if not (path / MANIFEST).exists():
        raise BundleError(
            "this folder holds neither a bundle nor a checkpoint",
            where=path,
            expected=f"{MANIFEST} in it",
            remedy="to inspect a checkpoint in a folder, give the path of its weight file",
        )
    bundle = read_bundle(path)
    manifest = bundle.manifest
    following = f"paraexport predict {shlex.quote(str(path))} IMAGE"
    build_report = report.read(bundle.files)
    if branches and build_report.branches is None:
        raise no_branches(bundle)
    if as_json:
        about = {"kind": "bundle", "path": str(path), "verified": True, "size_bytes": bundle.size_bytes}
        results = {
            "engine": build_report.engine,
            "accuracy": build_report.accuracy,
            "first_look": build_report.first_look,
            "branches": build_report.branches,
        }
        emit_json({**about, "manifest": manifest, **results, "next": following})
        return
    if branches:
        print_sections(summary.branches(build_report))
        return
    print(f"{escaped(path)}: a bundle, {size_text(bundle.size_bytes)}; all files verified")
    print(summary.heading(manifest)[0])
    source = manifest.source
    print(f"built by paraexport {manifest.paraexport} from {escaped(source.name)}; {summary.origin(source.convention)}")
    print(", ".join(f"{name} {version}" for name, version in manifest.versions.items()))
    print()
    print_manifest(manifest)
    print_sections(summary.results(manifest, build_report))
    print()
    print_table(summary.files_table(manifest))
    print(f"\nnext: {escaped(following)}")


def no_branches(bundle: Bundle) -> InputError:
    if bundle.manifest.spec is None:
        what, remedy = "the module was not recognised as a Para-Former, so its branches are not known", None
    elif bundle.manifest.scores.kind == "values":
        what, remedy = "the outputs are values, not classes, so there are no answers to compare", None
    else:
        what, remedy = "the report of this bundle has nothing about branches", REBUILD
    return InputError(what, where=bundle.path, remedy=remedy)


def print_manifest(manifest: Manifest) -> None:
    """Print the fields of the model and its images, the meaning of the scores, and the inputs and outputs."""
    preprocessing = manifest.preprocessing
    model = {} if manifest.spec is None else vars(manifest.spec)
    classes = {"classes": manifest.outputs[0].shape[-1]}
    values = {**(model or classes), **vars(preprocessing)}
    given = manifest.source.overrides
    print_table(summary.spec_table(values, manifest.labels, manifest.assumptions, given))
    scores = recorded(manifest.scores, len(manifest.labels))
    print(f"\nscores: {scores_text(scores)}{f'; {scores.reason}' if scores.reason else ''}")
    if scores.negative:
        print(f"label below 50 %: {scores.negative}")
    print_table(summary.tensors_table(manifest.inputs, manifest.outputs))
