"""A real Alertmanager: receives, groups, silences, resolves, and relays by the configuration that is shipped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ruamel.yaml import YAML

from funnelwatch.deploy.embedded.ports import HOST
from tests.alerts import alert, publish
from tests.integration.test_notifier import notifying
from tests.programs import found, get_json, needs, post_json, program
from tests.receivers import Mailbox, Receiver, anything, mail_server, pagerduty, receiving
from tests.stack import wait_until

if TYPE_CHECKING:
    import pytest

    from funnelwatch.schemas.settings import Settings

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose" / "alertmanager.sh"
SHIPPED = Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"
KEY = "0123456789abcdef0123456789ABCDEF"


@needs("amtool")
def test_the_shipped_configuration_passes_amtool() -> None:
    """As `amtool check-config` sees it."""
    amtool = found("amtool")
    assert amtool is not None
    done = subprocess.run([amtool, "check-config", str(SHIPPED)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 receivers" in done.stdout


def configured(folder: Path, pager: Receiver, mailbox: Mailbox) -> Path:
    """The shipped configuration with the addresses and secrets of this test, and shorter waits."""
    yaml = YAML(typ="safe")
    config: dict[str, Any] = yaml.load(SHIPPED.read_text())
    for name, secret in (("pagerduty_key", KEY), ("smtp_password", "secret")):
        (folder / name).write_text(secret)
    config["global"] |= {
        "smtp_smarthost": f"{HOST}:{mailbox.port}",
        "smtp_auth_password_file": str(folder / "smtp_password"),
    }
    config["route"] |= {"group_wait": "100ms", "group_interval": "1s"}
    page, mail = config["receivers"]
    page["pagerduty_configs"][0] |= {"url": pager.url, "routing_key_file": str(folder / "pagerduty_key")}
    mail["email_configs"][0]["tls_config"] = {"ca_file": str(mailbox.ca_file)}
    file = folder / "alertmanager.yml"
    with file.open("w") as text:
        yaml.dump(config, text)
    return file


@needs("prometheus-alertmanager")
def test_alertmanager_receives_groups_silences_resolves_and_relays(settings: Settings, tmp_path: Path) -> None:
    """Firing pages PagerDuty and is mailed; it is said again while it fires; a silence mutes; resolved ends both."""
    login = ("alertmanager@example.com", "secret")
    with receiving(pagerduty) as pager, mail_server(tmp_path, login) as mailbox:
        arguments = [f"--config.file={configured(tmp_path, pager, mailbox)}", f"--storage.path={tmp_path}/data"]
        arguments += [f"--web.listen-address={HOST}:{{port}}", "--cluster.listen-address="]
        with program("prometheus-alertmanager", tmp_path, "/-/ready", *arguments) as url:
            relay(settings, url, pager, mailbox)


def relay(settings: Settings, url: str, pager: Receiver, mailbox: Mailbox) -> None:
    """What Alertmanager does with the alerts that it is told of."""

    def known(**filters: str) -> list[dict[str, Any]]:
        query = urlencode({"filter": [f'{name}="{value}"' for name, value in filters.items()]}, doseq=True)
        return list(get_json(f"{url}/api/v2/alerts?{query}"))

    links = {"summary": "iOS lost a third", "dashboard": "https://grafana/d/step?var-step=VERIFY_SMS_CODE"}
    first = alert(alert_id="a", severity="critical", annotations=links)
    route = {"name": "am", "kind": "alertmanager", "url": url, "resend": "1s", "valid_for": "20s"}
    with notifying(settings, [route]):
        publish(settings, first, alert(alert_id="b", dimensions={"os": "Android"}))
        wait_until(lambda: len(known()) == 2, "Alertmanager has both")
        [one] = known(alert_id="a")
        assert one["labels"] == {
            "alertname": "ConversionDrop", "alert_id": "a", "severity": "critical", "funnel": "sign_up",
            "step": "VERIFY_SMS_CODE", "os": "iOS",
        }  # fmt: skip
        assert one["generatorURL"] == links["dashboard"]
        assert one["annotations"]["description"].startswith("FIRING critical ConversionDrop sign_up VERIFY_SMS_CODE")
        wait_until(lambda: pager.taken and len(mailbox.mails) == 2, "PagerDuty is paged, both are mailed")
        [page] = pager.taken
        assert (page["event_action"], page["payload"]["severity"]) == ("trigger", "critical")
        assert (page["client_url"], page["payload"]["component"]) == (links["dashboard"], "VERIFY_SMS_CODE")
        groups = get_json(f"{url}/api/v2/alerts/groups")
        grouped = [(group["labels"]["alert_id"], group["receiver"]["name"]) for group in groups]
        assert sorted(grouped) == [("a", "mail"), ("a", "page"), ("b", "mail")]

        # It would be over by itself after twenty seconds; told again, it is not.
        ends = one["endsAt"]
        wait_until(lambda: known(alert_id="a")[0]["endsAt"] > ends, "it is said again")
        mute = {"name": "os", "value": "Android", "isRegex": False, "isEqual": True}
        span = {"startsAt": one["startsAt"], "endsAt": "2099-01-01T00:00:00Z"}
        post_json(f"{url}/api/v2/silences", {"matchers": [mute], **span, "createdBy": "me", "comment": "known"})
        wait_until(lambda: known(alert_id="b")[0]["status"]["state"] == "suppressed", "the silence mutes it")

        publish(settings, *(alert("resolved", alert_id=name, sequence=1, severity="warning") for name in "ab"))
        wait_until(lambda: not known(), "nothing fires any more")
        wait_until(lambda: len(pager.taken) == 2 and len(mailbox.mails) == 3, "the end is relayed")
    assert pager.taken[1]["event_action"] == "resolve"
    assert pager.taken[1]["dedup_key"] == page["dedup_key"]
    [over] = [mail for mail in mailbox.mails if mail["Subject"].startswith("RESOLVED")]
    assert (over["X-RcptTo"], over["X-TLS"]) == ("on-call@example.com", "True")
    assert not [one for one in pager.got if one.status != 202]


@needs("prometheus-alertmanager", "amtool")
def test_alertmanager_of_the_containers_tells_whom_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started as compose.yml starts it, with each way named: amtool does not object, and two that are here are told."""
    real, amtool = found("prometheus-alertmanager"), found("amtool")
    assert real is not None
    assert amtool is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "alertmanager").symlink_to(real)
    named = {
        "PAGERDUTY_KEY": KEY,
        "EMAIL_TO": "on-call@example.com",
        "SMTP_HOST": f"{HOST}:1",
        "SMTP_USER": "me",
        "SMTP_PASSWORD": "it's: #1",
    }
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in named.items():
        monkeypatch.setenv(f"ALERT_{name}", value)
    with receiving(anything) as hook, receiving(anything) as channel:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", hook.url)
        monkeypatch.setenv("ALERT_SLACK_URL", channel.url)
        arguments = [f"--storage.path={tmp_path}/data", f"--web.listen-address={HOST}:{{port}}"]
        command = [str(COMPOSE), str(tmp_path), *arguments, "--cluster.listen-address="]
        with program("sh", tmp_path, "/-/ready", *command) as url:
            check = [amtool, "check-config", str(tmp_path / "alertmanager.yml")]
            done = subprocess.run(check, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            add = [amtool, f"--alertmanager.url={url}", "alert", "add", "ConversionDrop", "severity=warning"]
            subprocess.run([*add, "--annotation=description=iOS lost a third"], check=True, capture_output=True)
            wait_until(lambda: hook.taken and channel.taken, "both are told")
    assert hook.taken[0]["alerts"][0]["annotations"] == {"description": "iOS lost a third"}
    assert "iOS lost a third" in str(channel.got[0].json)
