"""Where this daemon runs: its settings with everything that they point to already read.

The rule: files and the environment are read here, once, at the start; every mistake is reported before anything runs.
Relative paths are read from the folder of the settings file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rollout.alerts import Channel, Kind
from rollout.clock import WallClock
from rollout.daemon.logs import Secrets
from rollout.errors import PolicyError, SettingsError
from rollout.policy import parse_policy
from rollout.settings import Channel as ChannelSettings
from rollout.settings import Settings, parse_settings, with_sandbox
from rollout.world import Severity

MAX_SECRET = 64 * 1024  # bytes: certificates are larger than passwords
#: ROLLOUT_API tells the commands where a daemon answers; it is no field of the settings.
NOT_SETTINGS = frozenset({"ROLLOUT_API"})


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """What a sandbox says of itself, as far as the daemon needs it."""

    address: str
    ca_file: str
    epoch: float
    speed: float


@dataclass(frozen=True, kw_only=True)
class Site:
    """Settings, clock, paths and secrets: all that `wiring` needs."""

    settings: Settings
    folder: Path
    clock: WallClock
    sandbox: Sandbox | None
    client_secret: str | None = field(repr=False)
    channels: tuple[Channel, ...]

    def path(self, written: str) -> Path:
        """A path of the settings, from their folder."""
        return self.folder / written

    @property
    def store_url(self) -> str:
        """The store's address with its path resolved."""
        return f"sqlite:///{self.path(self.settings.store.removeprefix('sqlite:///'))}"


def read_site(config: Path, *, environ: Mapping[str, str], secrets: Secrets) -> Site:
    """Read the settings and what they name. Raises SettingsError with every mistake."""
    text = _text(config)
    folder = config.resolve().parent
    mine = {name: value for name, value in environ.items() if name not in NOT_SETTINGS}
    settings = parse_settings(text, file=str(config), environ=mine)
    settings, sandbox = _with_sandbox(settings, folder)
    reader = _SecretReader(folder, environ, secrets)
    credential = settings.credential
    client_secret = reader.read("credential", credential.secret_env, credential.secret_file)
    channels = tuple(_channel(name, channel, reader) for name, channel in settings.channels.items())
    reader.mistakes += _default_mistakes(settings)
    if reader.mistakes:
        raise SettingsError("\n".join(f"{config}: {mistake}" for mistake in reader.mistakes))
    return Site(
        settings=_resolved(settings, folder),
        folder=folder,
        clock=WallClock(epoch=sandbox.epoch, speed=sandbox.speed) if sandbox else WallClock(),
        sandbox=sandbox,
        client_secret=client_secret,
        channels=channels,
    )


def _text(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"No settings at {config}: name them with --config FILE or ROLLOUT_CONFIG.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings {config} cannot be read: {error}.") from None


def _with_sandbox(settings: Settings, folder: Path) -> tuple[Settings, Sandbox | None]:
    if settings.cloud.sandbox is None:
        return settings, None
    file = folder / settings.cloud.sandbox
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        sandbox = Sandbox(
            address=str(told["address"]),
            ca_file=str(told["ca_file"]),
            epoch=float(told["epoch"]),
            speed=float(told["speed"]),
        )
    except FileNotFoundError:
        raise SettingsError(f"No sandbox has written {file}: start one with `rollout sandbox`.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file} is not what a sandbox writes ({error!r}): start the sandbox anew.") from None
    return with_sandbox(settings, told), sandbox


def _resolved(settings: Settings, folder: Path) -> Settings:
    """The certificate's path from the folder of the settings: azure-identity opens it by itself."""
    credential = settings.credential
    if credential.certificate_file is None:
        return settings
    found = credential.model_copy(update={"certificate_file": str(folder / credential.certificate_file)})
    return settings.model_copy(update={"credential": found})


def _default_mistakes(settings: Settings) -> list[str]:
    """`defaults` must be good for a policy that says nothing else."""
    try:
        parse_policy("endpoint_name: endpoint", file="defaults", defaults=settings.defaults)
    except PolicyError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


def _channel(name: str, channel: ChannelSettings, reader: "_SecretReader") -> Channel:
    place = f"channels: {name}"
    severities = frozenset(Severity(severity) for severity in channel.severity)
    if channel.webhook is not None:
        secret = reader.read(place, channel.secret_env, channel.secret_file)
        return Channel(name=name, kind=Kind.WEBHOOK, url=channel.webhook, secret=secret, severities=severities)
    url = reader.read(place, channel.url_env, channel.url_file) or ""
    return Channel(name=name, kind=Kind.APPRISE, url=url, severities=severities)


class _SecretReader:
    """Reads secrets from the environment and from files, and collects what is missing."""

    def __init__(self, folder: Path, environ: Mapping[str, str], secrets: Secrets) -> None:
        self._folder = folder
        self._environ = environ
        self._secrets = secrets
        self.mistakes: list[str] = []

    def read(self, place: str, variable: str | None, file: str | None) -> str | None:
        """The secret that one of both names; None where neither does, or where it is missing."""
        if variable is not None:
            return self._keep(place, f"the environment variable {variable}", lambda: self._environ.get(variable, ""))
        if file is not None:
            return self._keep(place, f"the file {file}", lambda: self._file(self._folder / file))
        return None

    def _file(self, path: Path) -> str:
        with path.open("rb") as stream:
            return stream.read(MAX_SECRET).decode("utf-8")

    def _keep(self, place: str, source: str, look: Callable[[], str]) -> str | None:
        try:
            secret = look().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            self.mistakes.append(f"{place}: {source} cannot be read: {reason}.")
            return None
        if not secret:
            self.mistakes.append(f"{place}: {source} is empty or missing: it should hold a secret.")
            return None
        self._secrets.add(secret)
        return secret
