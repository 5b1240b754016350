"""Writes and reads bundles: folders with a model, its manifest and its proofs. `docs/bundle.md` defines the format.

A bundle is written next to its final path and moved there in one step. So a reader sees a whole bundle or none. The
manifest holds the hash of every file, and its own. A runtime opens exactly the files that were hashed.
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
