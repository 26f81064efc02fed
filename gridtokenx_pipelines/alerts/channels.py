"""Where an alert goes: a webhook and a mail server, whichever the settings name.

Belongs here: delivering one alert, and saying where it could not be delivered. Does not belong here: what is worth an
alert (sensors) or when it was told before (their cursors).
"""

from __future__ import annotations

import smtplib
import urllib.request
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import msgspec

from gridtokenx_pipelines.config import Settings

PATIENCE_SECONDS = 10.0
SMTP_PORT, SMTPS_PORT = 25, 465


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """`title` in a line, `text` with value, bound and remedy; `key` is the same for the same trouble."""

    title: str
    text: str
    key: str


def deliver(settings: Settings, alert: Alert) -> list[str]:
    """Send the alert to every channel that is set; what went wrong, one line a channel, empty if nothing did.

    A channel that is down keeps no other from being told, and never an epoch from being settled.
    """
    wrong: list[str] = []
    for name, send in (("webhook", _post), ("e-mail", _mail)):
        try:
            send(settings, alert)
        except (OSError, smtplib.SMTPException) as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    return wrong


def _post(settings: Settings, alert: Alert) -> None:
    if not settings.alert_webhook_url:
        return
    request = urllib.request.Request(  # noqa: S310 - http or https, as the settings have checked
        settings.alert_webhook_url, msgspec.json.encode(alert), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):  # noqa: S310 - see above
        pass


def _mail(settings: Settings, alert: Alert) -> None:
    if not settings.alert_email_to:
        return
    message = EmailMessage()
    message["From"], message["To"] = settings.alert_email_from, ", ".join(settings.alert_email_to)
    message["Subject"] = f"[GridTokenX {settings.network}] {alert.title}"
    message.set_content(f"{alert.text}\n\n{alert.key}")
    server = urlsplit(settings.smtp_url)
    if server.scheme == "smtps":
        opened: smtplib.SMTP = smtplib.SMTP_SSL(
            server.hostname or "", server.port or SMTPS_PORT, timeout=PATIENCE_SECONDS
        )
    else:
        opened = smtplib.SMTP(server.hostname or "", server.port or SMTP_PORT, timeout=PATIENCE_SECONDS)
    with opened as smtp:
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(message)
