"""API keys: their file, and how a key is found in it."""

from __future__ import annotations

import hashlib
import hmac
import math
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.errors import InvalidInput
from service.runtime.quotas import Allowance
from service.web import keys

HASH = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "fedcba9876543210" * 4


def read(folder: Path, text: str) -> keys.Keys:
    file = folder / "keys"
    file.write_text(text)
    return keys.read(file)


def test_a_file_has_one_key_a_line_with_comments_and_blank_lines(tmp_path: Path) -> None:
    found = read(
        tmp_path, f"# ours\n\nalice {HASH}\r\n  bob.2 \t{OTHER} rate=0.5 concurrency=2 paths=/gan/,/em/register\n"
    ).keys
    assert [key.id for key in found] == ["alice", "bob.2"]
    assert [key.digest.hex() for key in found] == ["0123456789abcdef" * 4, "fedcba9876543210" * 4]
    assert [key.allowance for key in found] == [Allowance(), Allowance(0.5, 1, 2)]
    assert [key.paths for key in found] == [(), ("/gan", "/em/register")]


@pytest.mark.parametrize(
    ("options", "allowance"),
    [
        ("", Allowance(math.inf, 1, math.inf)),
        ("rate=2.5", Allowance(2.5, 3, math.inf)),
        ("burst=9 rate=2", Allowance(2, 9, math.inf)),
        ("concurrency=4", Allowance(math.inf, 1, 4)),
    ],
)
def test_the_burst_is_the_rate_unless_it_is_given(tmp_path: Path, options: str, allowance: Allowance) -> None:
    (key,) = read(tmp_path, f"alice {HASH} {options}").keys
    assert key.allowance == allowance


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("alice", "new-key"),
        ("latentserve_secret", "new-key"),
        (f"a/b {HASH}", "letters, digits"),
        (f"{'a' * 65} {HASH}", "1 to 64"),
        (f"-a {HASH}", "begin with a letter or digit"),
        (f"é {HASH}", "letters, digits"),
        (HASH, "letters, digits"),
        ("alice secret", "new-key"),
        (f"alice {HASH}0", "64 hexadecimal"),
        (f"alice {HASH[:-1]}", "64 hexadecimal"),
        (f"alice {HASH.upper()}", "64 hexadecimal"),
        (f"alice {HASH} secret", "rate=, burst=, concurrency= and paths="),
        (f"alice {HASH} rate", "rate=, burst=, concurrency= and paths="),
        (f"alice {HASH} rate=1 rate=2", "rate is given twice"),
        (f"alice {HASH} rate=0", "from 0.0001"),
        (f"alice {HASH} rate=nan", "from 0.0001"),
        (f"alice {HASH} rate=-1", "from 0.0001"),
        (f"alice {HASH} rate=1e3", "from 0.0001"),
        (f"alice {HASH} burst=2", "burst needs a rate"),
        (f"alice {HASH} rate=1 burst=0", "burst must be"),
        (f"alice {HASH} rate=1 burst=1.5", "burst must be"),
        (f"alice {HASH} concurrency=0", "concurrency must be"),
        (f"alice {HASH} concurrency=", "concurrency must be"),
        (f"alice {HASH} paths=", "begin with /"),
        (f"alice {HASH} paths=gan", "begin with /"),
        (f"alice {HASH} paths=/gan,", "begin with /"),
        (f"first {HASH}", "that of line 1; each key needs an id"),
        (f"alice {OTHER}", "that of line 1; each id needs a key"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_the_cure_and_is_not_quoted(
    tmp_path: Path, line: str, cause: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read(tmp_path, f"first {OTHER}\n\n{line}\n")
    detail = refusal.value.detail
    assert f"{tmp_path / 'keys'}, line 3: " in detail
    assert cause in detail
    assert "secret" not in detail
    assert HASH[7:] not in detail


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("#" * (1 << 20) + "\n")
    for name, cause in (("binary", "UTF-8"), ("large", "1048576"), ("missing", "No such file"), (".", "directory")):
        with pytest.raises(InvalidInput, match=cause) as refusal:
            keys.read(tmp_path / name)
        assert "LATENTSERVE_API_KEYS_FILE" in refusal.value.detail
    with pytest.raises(InvalidInput, match=r"line 2049: .* more than 2048 keys"):
        read(tmp_path, "".join(f"k{n} sha256:{n:064x}\n" for n in range(2049)))


def test_a_key_is_found_and_one_that_differs_in_any_position_is_not(tmp_path: Path) -> None:
    secrets = {name: keys.new_secret() for name in ("alice", "bob")}
    found = read(tmp_path, "\n".join(keys.line_of(secret, name) for name, secret in secrets.items()))
    for name, secret in secrets.items():
        key = found.find(secret.encode())
        assert key is not None
        assert key.id == name
    right = secrets["alice"].encode()
    for position in range(len(right)):
        wrong = bytearray(right)
        wrong[position] ^= 1
        assert found.find(bytes(wrong)) is None
        assert found.find(right[:position]) is None
    for other in (b"", right + b"x", right * 100, right.upper(), hashlib.sha256(right).hexdigest().encode()):
        assert found.find(other) is None


def test_digests_that_begin_alike_are_told_apart_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = keys.new_secret()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    alike = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    compared = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first.hex(), second.hex()))
        return hmac.compare_digest(first, second)

    class Recording:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(keys, "hmac", Recording)
    key = read(tmp_path, f"alike sha256:{alike}\nalice sha256:{digest}").find(secret.encode())
    assert key is not None
    assert key.id == "alice"
    assert compared == [(alike, digest), (digest, digest)]


@pytest.mark.parametrize(
    ("paths", "path", "opens"),
    [
        ("", "/gan/generate", True),
        ("paths=/", "/gan/generate", True),
        ("paths=/gan", "/gan/generate", True),
        ("paths=/gan/", "/gan/generate", True),
        ("paths=/gan/generate", "/gan/generate", True),
        ("paths=/em,/gan/generate", "/gan/generate", True),
        ("paths=/ga", "/gan/generate", False),
        ("paths=/gan/gen", "/gan/generate", False),
        ("paths=/gan/generate/all", "/gan/generate", False),
        ("paths=/gan/generate", "/gan/generates", False),
        ("paths=/gan/generate", "/gan//generate", False),
    ],
)
def test_a_key_opens_its_paths_and_those_below_them(tmp_path: Path, paths: str, path: str, opens: bool) -> None:
    (key,) = read(tmp_path, f"alice {HASH} {paths}").keys
    assert key.opens(path) is opens


def test_the_command_prints_a_key_and_the_line_that_lets_it_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = []
    for _ in range(2):
        assert main(["new-key", "--id", "alice", "--rate", "5", "--concurrency", "2", "--paths", "/gan"]) == 0
        secret, line = (text for text in capsys.readouterr().out.splitlines() if not text.startswith("#"))
        key = read(tmp_path, line).find(secret.encode())
        assert key is not None
        assert (key.id, key.allowance, key.paths) == ("alice", Allowance(5, 5, 2), ("/gan",))
        assert secret not in line
        assert len(secret) >= len("latentserve_") + 43  # 256 bits in base64
        secrets.append(secret)
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize(
    "arguments", [["--id", "a b"], ["--id", "alice", "--rate", "0"], ["--id", "a", "--burst", "2"]]
)
def test_the_command_makes_no_key_whose_line_would_be_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-key", *arguments]) == 2
    printed: Any = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("no key was made: ")
