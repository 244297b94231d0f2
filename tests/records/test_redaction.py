"""Which options are secrets, and that none is left in data or in a command."""

import json

import pytest

from slm_math.records.redaction import command_without_secrets, hidden_options, is_secret
from slm_math.records.redaction import without_secrets as hide

SECRETS = [
    *("api_key", "apiKey", "API_KEY", "api_keys", "key", "hf_token", "hfToken", "access_tokens"),
    *("client-secret", "password", "passwd", "passphrase", "authorization", "logger.api_key"),
]
OTHERS = [
    *("max_new_tokens", "tokens", "tokens_per_batch", "tokenizer", "api_key_env", "keys"),
    *("monkey", "keyword", "password_file", "secret.notes"),
]


@pytest.mark.parametrize("name", [*SECRETS, *OTHERS])
def test_name_says_whether_an_option_is_a_secret(name: str) -> None:
    assert is_secret(name) == (name in SECRETS)


def test_secrets_are_hidden_at_any_depth_and_nothing_else() -> None:
    data = {"a": [{"api_key": "x", "b": 1}], "token": 7, "password": None, "secret": ""}
    more = {"api_keys": ["x", "y"], "key": {"kind": "agent", "token": "z"}, "use_key": True}
    assert hide(data | more) == {
        "a": [{"api_key": "***", "b": 1}],
        "token": "***",
        "password": None,
        "secret": "",
        "api_keys": ["***", "***"],
        "key": {"kind": "agent", "token": "***"},
        "use_key": True,
    }
    assert list(hidden_options(hide({"a": [{"api_key": "x"}], "token": "t"}))) == [
        "a.api_key",
        "token",
    ]


def test_command_keeps_all_but_its_secrets() -> None:
    given = ["fit", "--a.api_key", "x", "--b", "text: more", "--c.token=x", '--d={"key": "x"}']
    shown = [
        "fit",
        "--a.api_key",
        "***",
        "--b",
        "text: more",
        "--c.token=***",
        '--d={"key": "***"}',
    ]
    assert command_without_secrets(given, json.loads) == shown
