"""Pictures on their way to an engine, and their placeholders in prompts."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image as Pillow

from slm_math.engines.base import EngineError
from slm_math.engines.images import opened_images
from slm_math.images import chat_images, image_url, open_image
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Image, assistant, system, user

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% "
    "else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% "
    "endif %}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    Pillow.new("RGB", (3, 2), (200, 30, 10)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.fixture
def chat(tmp_path: Path) -> ChatFormat:
    tokenizer = Scratch().tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*tokenizer.all_special_tokens, "<image>"]}
    )
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    return ChatFormat(tokenizer, str(tmp_path / "template.jinja"))


def test_sources_in_order() -> None:
    chat = (
        *user("a", [Image("1.png"), Image("2.png")]),
        *assistant("b"),
        *user("c", [Image("3.png")]),
    )
    assert chat_images(chat) == (Image("1.png"), Image("2.png"), Image("3.png"))


def test_file_and_data_url_are_the_same_image(image_file: Path) -> None:
    url = image_url(str(image_file))
    assert url == "data:image/png;base64," + base64.b64encode(image_file.read_bytes()).decode()
    for source in (str(image_file), url):
        assert open_image(source).size == (3, 2)
        assert open_image(source).getpixel((0, 0)) == (200, 30, 10)


def test_image_with_an_alpha_channel_becomes_rgb(tmp_path: Path) -> None:
    Pillow.new("RGBA", (1, 1), (1, 2, 3, 255)).save(tmp_path / "a.png")
    assert open_image(str(tmp_path / "a.png")).mode == "RGB"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no.png", "no.png: No such file"),
        ("https://example.com/x.png", "not on this machine"),
        ("data:image/png;base64,AAAA", "cannot read"),
        ("data:image/png;base64,%%%", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_an_engine_error(source: str, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        opened_images(user("What?", [Image(source)]))


def test_one_placeholder_for_each_image(chat: ChatFormat) -> None:
    chat.images = True
    asked = (*system("s"), *user("What?", [Image("a"), Image("b")]))
    assert chat.render(asked) == "[system]s<|end|>[user]<image><image>What?<|end|>[assistant]"
    mark = chat.tokenizer.convert_tokens_to_ids("<image>")
    assert chat.encode(asked).count(mark) == 2


def test_text_cannot_pose_as_an_image(chat: ChatFormat) -> None:
    chat.images = True
    mark = chat.tokenizer.convert_tokens_to_ids("<image>")
    assert chat.encode(user("<image> look", [Image("a")])).count(mark) == 1


def test_text_model_rejects_images(chat: ChatFormat) -> None:
    with pytest.raises(ValueError, match="takes text only"):
        chat.render(user("What?", [Image("a")]))
