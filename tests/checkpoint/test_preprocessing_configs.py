"""Hugging Face's and timm's preprocessing configs: what they say is done, or refused, never dropped."""

import json
from pathlib import Path
from typing import Any

import pytest

from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import SpecError
from paraexport.model.spec import Preprocessing
from tests.checkpoint.test_conventions import usual_spec
from tests.checkpoint.writers import HF_NEW, random_weights, saved, state_dict

SPEC = usual_spec(HF_NEW)


def preprocessing(folder: Path, config: dict[str, Any], **options: str) -> Preprocessing:
    saved(folder / "model.pt", state_dict(HF_NEW.write(random_weights(SPEC), SPEC)))
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return load_checkpoint(folder / "model.pt", overrides={"heads": "2", **options}).preprocessing


def test_without_normalisation_pixels_stay_on_the_scale_0_to_1(tmp_path: Path) -> None:
    found = preprocessing(tmp_path, {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)


def test_squashing_keeps_no_aspect_ratio(tmp_path: Path) -> None:
    # timm resizes both sides to ⌊8 / 0.8⌋ and cuts out the centre all the same
    assert preprocessing(tmp_path, {"crop_pct": 0.8, "crop_mode": "squash", "image_size": 8}).resize == (10, 10)
    assert preprocessing(tmp_path, {"crop_pct": 0.8, "image_size": 8}).resize == 10


@pytest.mark.parametrize(
    ("config", "message", "options"),
    [
        ({"do_rescale": False}, "another scale than 0..1", {"mean": "0.5", "std": "0.5"}),
        ({"rescale_factor": 1 / 127.5}, "another scale than 0..1", {"mean": "0.5", "std": "0.5"}),
        ({"do_resize": False, "size": 8}, "do_resize=false", {"resize": "8"}),
    ],
)
def test_a_step_that_is_not_ours_is_refused_until_it_is_settled(
    config: dict[str, Any], message: str, options: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        preprocessing(tmp_path, config)
    preprocessing(tmp_path, config, **options)


def test_the_usual_switches_are_no_obstacle(tmp_path: Path) -> None:
    found = preprocessing(tmp_path, {"do_resize": True, "do_rescale": True, "rescale_factor": 0.00392156862745098})
    assert found.channels == 3
