"""The bundle: one folder with a model, its manifest and its proofs. `docs/bundle.md` is the format.

A bundle is made beside its place and put there in one step, so that a reader sees a whole bundle or none. Every file is
hashed in the manifest, and the manifest in itself. What was hashed is what a runtime opens.
"""

from paraexport.bundle.manifest import FORMAT, NO_DIGEST, most_images
from paraexport.bundle.reader import Bundle, read_bundle, read_manifest, reading
from paraexport.bundle.writer import check_replaceable, staging, write_manifest
from paraexport.targets.folder import COPY_AGAIN as REBUILD
from paraexport.targets.folder import MANIFEST, MODEL

__all__ = [
    "FORMAT", "MANIFEST", "MODEL", "NO_DIGEST", "REBUILD",
    "Bundle", "check_replaceable", "most_images", "read_bundle", "read_manifest", "reading", "staging",
    "write_manifest",
]  # fmt: skip
