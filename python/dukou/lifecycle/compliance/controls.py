"""The controls: what each asks for, where standards and laws ask for it, and how it is judged.

One literal table. References name the places; they are not the texts, and no lawyer wrote them:
ISO/IEC 27001:2022 Annex A; GDPR (EU) 2016/679; China's Personal Information Protection Law (PIPL);
等保 2.0: GB/T 22239-2019, the third level's general requirements on the computing environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dukou.lifecycle.compliance import judge
from dukou.lifecycle.compliance.facts import Facts


class Judgement(NamedTuple):
    """What was found of one control.

    Attributes:
        outcome: whether it holds.
        evidence: what was measured, a sentence or two.
        remedy: what to do; empty where it holds.
    """

    outcome: judge.Outcome
    evidence: str
    remedy: str = ""


class Control(NamedTuple):
    """One control.

    Attributes:
        id: stable.
        title: what is asked for.
        title_zh: the same in Chinese.
        asked_by: where: standard or law → its places.
        judge: facts → (outcome, evidence, remedy).
    """

    id: str
    title: str
    title_zh: str
    asked_by: dict[str, str]
    judge: Callable[[Facts], judge.Judged]


ISO, GDPR, PIPL, MLPS = "ISO/IEC 27001:2022", "GDPR", "PIPL", "等保 2.0"

CONTROLS: tuple[Control, ...] = (
    Control(
        "access.authenticated",
        "Whoever asks from another machine shows who they are",
        "来自其他机器的请求须表明身份",
        {ISO: "A.5.15, A.8.5", GDPR: "32(1)(b)", PIPL: "51", MLPS: "8.1.4.1"},
        judge.authenticated,
    ),
    Control(
        "access.least",
        "A key may do what it is for, for a limited time",
        "密钥只有必要的权限，并有期限",
        {ISO: "A.5.18, A.8.2", GDPR: "25(2), 32(4)", PIPL: "51(4)", MLPS: "8.1.4.2"},
        judge.least_privilege,
    ),
    Control(
        "transit.encrypted",
        "What leaves the machine is encrypted on its way",
        "离开本机的数据在传输中加密",
        {ISO: "A.8.20, A.8.24", GDPR: "32(1)(a)", PIPL: "51(3)", MLPS: "8.1.4.8"},
        judge.encrypted_in_transit,
    ),
    Control(
        "rest.encrypted",
        "Rows, weights and backups are encrypted where they lie",
        "数据、权重和备份静态加密",
        {ISO: "A.8.24", GDPR: "32(1)(a)", PIPL: "51(3)", MLPS: "8.1.4.8"},
        judge.encrypted_at_rest,
    ),
    Control(
        "state.private",
        "The state belongs to one user, and nobody else reads it",
        "状态目录只属于一个用户，他人不可读取",
        {ISO: "A.8.3", GDPR: "5(1)(f)", PIPL: "51(4)", MLPS: "8.1.4.2"},
        judge.private_state,
    ),
    Control(
        "model.genuine",
        "What serves is signed by somebody who is trusted, byte for byte",
        "提供服务的模型由受信任者签名，逐字节可验证",
        {ISO: "A.8.9, A.8.19", GDPR: "32(1)(b)", PIPL: "51", MLPS: "8.1.4.6, 8.1.4.7"},
        judge.genuine_models,
    ),
    Control(
        "audit.whole",
        "Every change is in an audit chain that verifies",
        "每次变更都在可验证的审计链中",
        {ISO: "A.5.28, A.8.15, A.8.32", GDPR: "5(2), 30", PIPL: "54", MLPS: "8.1.4.3"},
        judge.whole_audit,
    ),
    Control(
        "logs.kept",
        "Requests and refusals are written down",
        "请求和拒绝都有记录",
        {ISO: "A.8.15, A.8.16", GDPR: "33", PIPL: "51, 57", MLPS: "8.1.4.3, 8.1.4.4"},
        judge.kept_logs,
    ),
    Control(
        "backup.proved",
        "A backup was restored and proved within a month",
        "一个月内有备份经过恢复验证",
        {ISO: "A.8.13", GDPR: "32(1)(c)", PIPL: "51", MLPS: "8.1.4.9"},
        judge.proved_backup,
    ),
    Control(
        "privacy.tagged",
        "Of what callers send, nothing is kept that nobody has judged",
        "调用方的数据未经判定不得留存",
        {ISO: "A.5.34, A.8.11", GDPR: "5(1)(c), 25", PIPL: "6, 51(3)", MLPS: "8.1.4.11"},
        judge.tagged_captures,
    ),
    Control(
        "privacy.limited",
        "What is kept of callers goes after a time that was set",
        "留存的数据到期删除",
        {ISO: "A.8.10", GDPR: "5(1)(e), 17", PIPL: "19, 47", MLPS: "8.1.4.10, 8.1.4.11"},
        judge.limited_captures,
    ),
    Control(
        "software.audited",
        "What is installed was looked at within a month",
        "一个月内检查过已安装的软件",
        {ISO: "A.5.23, A.8.8", GDPR: "32(1)(d)", PIPL: "51", MLPS: "8.1.4.4"},
        judge.audited_software,
    ),
)


def measure(facts: Facts, control: Control) -> Judgement:
    """Judges one control."""
    return Judgement(*control.judge(facts))
