"""Pictures drawn by a pipeline: a tiny random one, made from configurations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from equikernels.cli import main
from equikernels.models.data import load_dataset
from equikernels.models.engine import ConfigurationError
from equikernels.models.rotational_vae import RotationalVAE
from equikernels.models.rotational_vae.pictures import Drawing, draw_pictures, load_pipeline


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {name: number for number, name in enumerate(names)}
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 4),
            norm_num_groups=2,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8),
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            block_out_channels=(4,),
            layers_per_block=1,
            norm_num_groups=2,
            cross_attention_dim=8,
            attention_head_dim=2,
        ),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


def pixels(path: Path) -> Any:
    return list(Image.open(path).convert("RGB").tobytes())


def test_pictures_are_a_data_set_and_go_on(pipeline_folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(pipeline_folder, "cpu")
    drawing = Drawing(str(pipeline_folder), "1girl", steps=2)
    drawn: list[Path] = []
    paths = draw_pictures(pipeline, drawing, tmp_path / "a", 3, drawn.append)
    assert drawn == paths == [tmp_path / "a" / f"0000{number}.png" for number in range(3)]
    assert load_dataset(tmp_path / "a").fields["image"].shape == (3, 16, 16)
    first = [pixels(path) for path in paths]
    assert first[0] != first[1]
    # A picture that is missing is drawn as it was; the others are left alone.
    paths[1].unlink()
    drawn.clear()
    draw_pictures(pipeline, drawing, tmp_path / "a", 3, drawn.append)
    assert drawn == [paths[1]]
    assert [pixels(path) for path in paths] == first
    # Another seed or prompt has other pictures, and is not mixed with these.
    other = Drawing(str(pipeline_folder), "1girl", steps=2, seed=1)
    with pytest.raises(ConfigurationError, match=r"a: was drawn with seed = 0, now it is 1"):
        draw_pictures(pipeline, other, tmp_path / "a", 3)
    (path,) = draw_pictures(pipeline, other, tmp_path / "b", 1)
    assert pixels(path) != first[0]
    (tmp_path / "a" / "drawing.json").unlink()
    with pytest.raises(ConfigurationError, match="has pictures that were not drawn here"):
        draw_pictures(pipeline, drawing, tmp_path / "a", 3)


def test_the_command_draws_and_the_tuned_vae_drops_into_the_pipeline(
    pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import AutoencoderKL

    words = [str(pipeline_folder), "--prompt", "a b", "--out", str(tmp_path / "drawn"), "--count", "2"]
    words += ["--steps", "1", "--size", "24", "--device", "cpu"]
    assert main(["pictures", *words]) == 0
    assert capsys.readouterr().out.count("saved: ") == 2
    assert load_dataset(tmp_path / "drawn").fields["image"].shape == (3, 24, 24)
    # The pipeline's own VAE is what is tuned, and goes back.
    model = RotationalVAE(pipeline_folder)
    model.save_pretrained(tmp_path / "vae")
    pipeline = load_pipeline(pipeline_folder, "cpu")
    pipeline.vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    draw_pictures(pipeline, Drawing("tuned", "a", steps=1), tmp_path / "again", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NOWHERE", "--prompt", "a", "--out", "OUT"], "pipeline: expected a folder or a hub name"),
        (["x", "--prompt", "a", "--out", "OUT", "--steps", "0"], "steps: expected an integer >= 1"),
        (["x", "--out", "OUT"], "--prompt"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"NOWHERE": str(tmp_path / "nowhere"), "OUT": str(tmp_path / "out")}
    assert main(["pictures", *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError, match="pipeline: expected a folder or a hub name") as caught:
        load_pipeline("owner-that-is-not-there/pipeline", "cpu")
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_written(pipeline_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file: cannot write there"):
        draw_pictures(None, Drawing("x", "a"), tmp_path / "file", 1)
    with pytest.raises(ConfigurationError, match="count: expected an integer >= 1, got 0"):
        draw_pictures(None, Drawing("x", "a"), tmp_path, 0)


def test_a_pipeline_is_asked_for_what_the_drawing_says(tmp_path: Path) -> None:
    """Size and steps where they are given, and noise that depends on the seed and the number alone."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Asked:
        def __call__(self, prompt: str, *, generator: torch.Generator, **options: Any) -> Any:
            asked.append((prompt, options))
            noise = torch.randint(256, (4, 4, 3), generator=generator, dtype=torch.uint8)
            return SimpleNamespace(images=[Image.fromarray(noise.numpy())])

    def drawn(folder: str, count: int, **options: Any) -> list[Any]:
        drawing = Drawing("it", **{"prompt": "a cat", "steps": 7, **options})
        return [pixels(path) for path in draw_pictures(Asked(), drawing, tmp_path / folder, count)]

    first = drawn("a", 3, size=24)
    assert asked == [("a cat", {"num_inference_steps": 7, "height": 24, "width": 24})] * 3
    assert len({tuple(picture) for picture in first}) == 3
    asked.clear()
    assert drawn("b", 2, prompt="a dog") == first[:2]
    assert asked == [("a dog", {"num_inference_steps": 7})] * 2
    other = drawn("c", 3, seed=1)
    assert not {tuple(picture) for picture in other} & {tuple(picture) for picture in first}
    # Any other setting in the folder of a drawing is refused.
    for name, value in (("prompt", "a dog"), ("steps", 8), ("size", 0), ("seed", 2)):
        with pytest.raises(ConfigurationError, match=f"was drawn with {name} = "):
            drawn("a", 3, **{"size": 24, name: value})
    with pytest.raises(ConfigurationError, match="was drawn with pipeline = 'it', now it is 'else'"):
        draw_pictures(Asked(), Drawing("else", "a cat", steps=7, size=24), tmp_path / "a", 3)
