"""Settings: the variables that are read, refused and ignored."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.__main__ import main
from service.settings import Settings, is_service_link, nearest_variable, service_links, variable

# The variables that Kubernetes sets in a pod for services named `latentserve` and `latentserve-api`.
LINKS = {
    "LATENTSERVE_PORT": "tcp://10.0.171.239:8000",
    "LATENTSERVE_PORT_8000_TCP": "tcp://10.0.171.239:8000",
    "LATENTSERVE_PORT_8000_TCP_ADDR": "10.0.171.239",
    "LATENTSERVE_PORT_8000_TCP_PORT": "8000",
    "LATENTSERVE_PORT_8000_TCP_PROTO": "tcp",
    "LATENTSERVE_SERVICE_HOST": "10.0.171.239",
    "LATENTSERVE_SERVICE_PORT": "8000",
    "LATENTSERVE_SERVICE_PORT_HTTP": "8000",
    "LATENTSERVE_API_PORT": "tcp://10.0.171.240:80",
    "LATENTSERVE_API_SERVICE_HOST": "10.0.171.240",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in map(variable, Settings.model_fields):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = Settings.model_fields[name].default
    special = {"device": "cpu", "log_level": "debug", "log_format": "console", "checkpoints": "/there", "host": "::1"}
    special |= {"root_path": "/prefix", "access_log_share": "0.5", "trusted_proxies": "10.0.0.0/8, ::1"}
    special |= {"api_keys_file": "/keys"}
    value = special.get(name) or str(default + 1)
    monkeypatch.setenv(variable(name), value)
    found = getattr(Settings(), name)
    expected: object = Path(value) if name in {"checkpoints", "api_keys_file"} else type(default)(value)
    if name == "trusted_proxies":
        expected = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert found == expected
    assert found != default


def test_arguments_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTSERVE_PORT", "1")
    assert Settings(port=2).port == 2


@pytest.mark.parametrize("name", ["LATENTSERVE_QUEUE_ITEM", "LATENTSERVE_NONSENSE", "latentserve_hots"])
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    with pytest.raises(ValidationError) as refusal:
        Settings()
    (mistake,) = refusal.value.errors()
    assert mistake["type"] == "extra_forbidden"
    assert variable(str(mistake["loc"][0])) == name.upper()


def test_an_unknown_variable_ends_the_start_with_one_line_and_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATENTSERVE_QUEUE_ITEM", "7")
    assert main(["check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "LATENTSERVE_QUEUE_ITEM:" in line
    assert "LATENTSERVE_QUEUE_ITEMS" in line


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_a_name_that_lacks_its_last_letter_is_nearest_to_the_whole_name(setting: str) -> None:
    assert nearest_variable(variable(setting)[:-1]) == variable(setting)


@pytest.mark.parametrize("name", ["LATENTSERVE_FOO", "LATENTSERVE_", "LATENTSERVE_QQQQ"])
def test_a_name_unlike_all_settings_has_no_nearest_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert nearest_variable(name) is None
    monkeypatch.setenv(name, "1")
    assert main(["check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("unknown setting")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("root_path", "/api/", "begins with / and does not end with /"),
        ("device", "gpu", "must be auto, cpu, cuda"),
        ("device", "cuda:x", "must be auto, cpu, cuda"),
        ("trusted_proxies", "10.0.0.0/8,proxy", "must list addresses, or networks such as 10.0.0.0/8"),
        ("trusted_proxies", "10.0.0.1/8", "has host bits set"),
        ("api_keys_file", "", "must be the path of a file"),
    ],
)
def test_the_error_of_a_value_states_the_rule_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(variable(name), value)
    assert main(["check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert variable(name) in line
    assert rule in line
    assert repr(value) in line


def test_service_links_do_not_change_settings_and_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert Settings() == Settings.model_construct()
    assert service_links(LINKS | {"LATENTSERVE_HOST": "::1", "HOME": "/"}) == sorted(LINKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LATENTSERVE_PORT", "9000"),
        ("LATENTSERVE_PORT", "tcp:9000"),
        ("LATENTSERVE_HOST", "tcp://10.0.0.1:80"),
        ("LATENTSERVE_PORTS", "tcp://10.0.0.1:80"),
        ("OTHER_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_other_variables_are_not_service_links(name: str, value: str) -> None:
    assert not is_service_link(name, value)


@pytest.mark.parametrize("value", ["/a", "/models/digits", "/~me/v1.2_x-y", ""])
def test_a_root_path_has_no_trailing_slash(value: str) -> None:
    assert Settings(root_path=value).root_path == value


@pytest.mark.parametrize(
    "value", ["/", "a", "/a/", "//a", "/a//b", "/a b", "/a?b", "/../a", "http://x/a", "/a\n", "/é"]
)
def test_an_invalid_root_path_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=value)


def test_the_variable_of_the_tests_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTSERVE_DATA", "/data")
    assert Settings() == Settings.model_construct()


def test_unknown_settings_and_invalid_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Settings(nonsense=1)  # type: ignore[call-arg]
    monkeypatch.setenv("LATENTSERVE_PORT", "65536")
    with pytest.raises(ValueError, match="port"):
        Settings()
