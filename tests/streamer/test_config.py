"""Configuration: what is accepted, and what is said about what is not."""

from pathlib import Path

import pytest

from streamer.config import Config, ConfigError, load_config


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sonostream.toml"
    file.write_text(text)
    return file


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, "[http]\nport = 1\nhost = '127.0.0.2'\n[model]\nruntime = 'onnxruntime'\n")
    environment = {"SONOSTREAM_HTTP__PORT": "2", "SONOSTREAM_HTTP__HOST": "127.0.0.3"}

    config = load_config(file, environment=environment, flags={"http.port": "3"})

    assert (config.http.port, config.http.host, config.model.runtime) == (3, "127.0.0.3", "onnxruntime")


def test_an_unknown_key_is_named_with_its_file_and_the_likely_one(tmp_path: Path) -> None:
    file = toml(tmp_path, "[smoothing]\nmask_tim_s = 0.2\n")

    with pytest.raises(
        ConfigError, match=r"sonostream\.toml: smoothing\.mask_tim_s: unknown key \(did you mean mask_time_s"
    ):
        load_config(file, environment={})


def test_a_wrong_type_says_what_was_expected_and_what_was_there(tmp_path: Path) -> None:
    file = toml(tmp_path, "[http]\nport = 'often'\n")

    with pytest.raises(ConfigError, match=r"http\.port: input should be a valid integer.*not 'often'"):
        load_config(file, environment={})


def test_a_wrong_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"^--http\.port: .*less than or equal to 65535, not '70000'"):
        load_config(flags={"http.port": "70000"}, environment={})


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="environment variable SONOSTREAM_HTTP__PORTT.*did you mean port"):
        load_config(environment={"SONOSTREAM_HTTP__PORTT": "1"})


def test_broken_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid TOML.*line 2"):
        load_config(toml(tmp_path, "[http]\nport == 1\n"), environment={})


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration .*No such file"):
        load_config(tmp_path / "absent.toml", environment={})


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://x", "unknown kind of source 'gopher'"),
        ("/dev/video99", "no such device: /dev/video99"),
        ("absent.mp4", "no such file or folder: 'absent.mp4'"),
    ],
)
def test_a_wrong_source_is_refused_before_anything_is_opened(uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(sources=(uri,), environment={})


def test_sources_without_a_name_are_named_after_their_kind() -> None:
    config = load_config(sources=("phantom:", "phantom:?seed=2"), environment={})

    assert [source.name for source in config.source] == ["phantom", "phantom-2"]


def test_two_sources_with_one_name_are_refused(tmp_path: Path) -> None:
    two = "[[source]]\nuri = 'phantom:'\nname = 'left'\n" * 2

    with pytest.raises(ConfigError, match="two sources have the same name"):
        load_config(toml(tmp_path, two), environment={})


def test_flags_of_a_source_hold_for_those_of_the_command_line() -> None:
    config = load_config(
        sources=("phantom:",),
        flags={"source.region": "10,20,300,200", "source.pixel_spacing_mm": "0.1,0.2"},
        environment={},
    )

    assert config.source[0].region == (10, 20, 300, 200)
    assert config.source[0].pixel_spacing_mm == (0.1, 0.2)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("model.classes", "normal, benign,malignant", ("normal", "benign", "malignant")),
        ("model.classes", "", ()),
        ("model.threads", "2", 2),
        ("smoothing.enabled", "false", False),
        ("smoothing.mask_time_s", "0.2", 0.2),
        ("source.size", "800,600", (800, 600)),
        ("source.pixel_spacing_mm", "0.1,0.2", (0.1, 0.2)),
        ("source.region", "10,20,300,200", (10, 20, 300, 200)),
    ],
)
def test_values_of_every_kind_can_be_given_as_text(key: str, text: str, value: object) -> None:
    section, _, name = key.partition(".")
    variable = f"SONOSTREAM_{section}__{name}".upper()

    given = [load_config(environment={}, flags={key: text}, sources=("phantom:",))]
    if section != "source":  # a source has no variable of its own
        given.append(load_config(environment={variable: text}, sources=("phantom:",)))

    for config in given:
        part = config.source[0] if section == "source" else getattr(config, section)
        assert getattr(part, name) == value


@pytest.mark.parametrize("region", ["1,2,3", "left", "0,0,10,10"])
def test_a_malformed_region_is_refused(region: str) -> None:
    with pytest.raises(ConfigError, match=r"source.*region.*expected"):
        load_config(sources=("phantom:",), flags={"source.region": region}, environment={})


def test_the_sample_file_lists_every_key_at_its_default() -> None:
    sample = Path(__file__).parents[2] / "sonostream.toml"
    active = load_config(sample, environment={})
    uncommented = sample.read_text()
    keys = [
        f"{name}.{key}"
        for name, field in Config.model_fields.items()
        if name != "source"
        for key in type(getattr(Config(), name)).model_fields
    ]

    assert active.model_dump(exclude={"source"}) == Config().model_dump(exclude={"source"})
    for key in keys:
        assert key.rpartition(".")[2] in uncommented, key


@pytest.mark.parametrize(
    "bind", ["tcp://0.0.0.0:7070", "tcp://192.168.0.5:7070", "tcp://*:7070", "tcp://[::]:7070"]
)
def test_results_are_not_published_beyond_this_machine_unencrypted(bind: str) -> None:
    with pytest.raises(ConfigError, match="beyond this machine, and results are not encrypted.*tunnel"):
        load_config(flags={"publish.bind": bind}, environment={})


@pytest.mark.parametrize(
    "bind", ["tcp://127.0.0.1:0", "tcp://localhost:7070", "tcp://[::1]:7070", "ipc:///run/x.ipc"]
)
def test_results_are_published_on_this_machine(bind: str) -> None:
    assert load_config(flags={"publish.bind": bind}, environment={}).publish.bind == bind
