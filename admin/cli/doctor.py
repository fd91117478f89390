"""`flask doctor`: what is well, what is not, and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from admin.cli.common import command, locale, printable, services, tell

COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@command("doctor", help="Check configuration, services, channels and models, and say what to mend.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(as_json: bool) -> None:
    from admin.doctor import examine

    findings = []
    for finding in examine(services(), locale()):
        findings.append(finding)
        if not as_json:
            click.echo(
                f"{click.style(f'{finding.state:<4}', fg=COLOURS[finding.state])}  {finding.part:<10} {printable(finding.text)}"
            )
    counts = {state: sum(finding.state == state for finding in findings) for state in COLOURS}
    if as_json:
        status = "fail" if counts["FAIL"] else "warn" if counts["WARN"] else "ok"
        click.echo(json.dumps({"status": status, "checks": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    elif counts["FAIL"]:
        tell("doctor.sum_fail", count=counts["FAIL"], warnings=counts["WARN"])
    else:
        tell("doctor.sum_ok", warnings=counts["WARN"])
    if counts["FAIL"]:
        raise SystemExit(1)
