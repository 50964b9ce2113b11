"""Which columns of a table look personal, by their names and by what stands in them, and tags for them.

A suggestion and no more: a column that is called `x7` and holds people's names looks like nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.trust.privacy.patterns import find_personal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Rows that are looked at, evenly over the table.
_LOOK_ROWS = 2000
# A column of which so many cells hold a pattern and little else is such a column.
_MANY = 0.5
# A cell that holds more than its pattern, by so much, is a free text.
_FREE_TEXT = 1.5
# Texts that are nearly all different and of several words, of any script.
_LONG_TEXT = 20
_DIFFERENT = 0.9

# Column names, as words in them → what they hold, and the tag for it.
_NAMES: tuple[tuple[str, str, str], ...] = (
    (r"e.?mail|邮箱|邮件|电子邮", "e-mail addresses", "hash"),
    (r"phone|mobile|(?:^|_)tel(?:$|_)|fax|手机|电话|联系方式", "telephone numbers", "hash"),
    (
        r"id.?card|identity|national.?id|passport|(?:^|_)ssn(?:$|_)|身份证|证件|护照|社保|驾照",
        "identity documents",
        "hash",
    ),
    (r"iban|card.?n|account.?n|credit.?card|银行|卡号|账号|账户", "bank accounts or cards", "hash"),
    (
        r"(?:^|_)ip(?:$|_)|ip.?addr|(?:^|_)mac(?:$|_)|imei|device.?id|设备",
        "devices or IP addresses",
        "hash",
    ),
    (r"birth|(?:^|_)dob(?:$|_)|出生|生日", "dates of birth", "generalize:year"),
    (r"(?:^|_)age(?:$|_)|年龄", "ages", "generalize:10"),
    (r"address|street|住址|地址|门牌", "addresses", "drop"),
    (r"zip|postal|post.?code|邮编|邮政编码", "postal codes", "generalize:prefix=3"),
    (
        r"(?:^|_)(?:lat|lon|lng|latitude|longitude|gps)(?:$|_)|经度|纬度|定位",
        "places",
        "generalize:0.1",
    ),
    (
        r"(?:first|last|full|given|family|sur|user|nick|customer|client|patient).?name|^name$|姓名|^名字|"
        r"昵称|用户名|^姓$|^名$|联系人",
        "names",
        "drop",
    ),
    (
        r"(?:customer|user|client|patient|member|person|subject).?(?:id|no|number|key)$|客户号|用户号|会员|"
        r"病历|学号|工号|患者",
        "numbers of people",
        "hash",
    ),
    (
        r"gender|(?:^|_)sex(?:$|_)|race|ethnic|religio|marital|性别|民族|宗教|婚姻|政治面貌",
        "a protected or sensitive trait",
        "keep",
    ),
    (r"diagnos|disease|health|病史|诊断|疾病", "health", "keep"),
    (
        r"comment|remark|note|message|feedback|review|备注|留言|评论|描述|内容",
        "free text",
        "detect",
    ),
)
_TAG_OF_KIND = dict.fromkeys(("email", "phone", "identity", "card", "iban", "ip"), "hash")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A column that looks personal.

    Attributes:
        column: its name.
        why: what speaks for it.
        tag: what is suggested.
        share: of the cells that were looked at, how many hold a pattern.
    """

    column: str
    why: str
    tag: str
    share: float


def inspect_columns(columns: Mapping[str, Array]) -> list[Suspicion]:
    """The columns that look personal, in their order."""
    found = []
    for name, column in columns.items():
        if column.ndim == 1:
            suspicion = _inspect(name, column)
            if suspicion is not None:
                found.append(suspicion)
    return found


def _inspect(name: str, column: Array) -> Suspicion | None:
    cells = _cells(column)
    kinds: Counter[str] = Counter()
    hits, length, covered = 0, 0, 0
    for cell in cells:
        pieces = find_personal(cell)
        if pieces:
            hits += 1
            kinds.update({piece.kind for piece in pieces})
            length += len(cell)
            covered += sum(piece.end - piece.start for piece in pieces)
    share = hits / len(cells) if cells else 0.0
    if share >= _MANY and length <= _FREE_TEXT * covered:
        kind = kinds.most_common(1)[0][0]
        return Suspicion(
            name, f"{share:.0%} of its cells are of the form `{kind}`", _TAG_OF_KIND[kind], share
        )
    said = _by_name(name)
    if hits and not (said and said[1] != "keep"):
        found = ", ".join(f"`{kind}`" for kind, _ in kinds.most_common())
        return Suspicion(name, f"{hits} of {len(cells)} cells hold {found}", "detect", share)
    if said is not None:
        tag = said[1]
        if tag.startswith("generalize") and column.dtype.kind == "O" and not _fits(tag):
            tag = "mask"
        return Suspicion(name, f"its name says {said[0]}", tag, share)
    if column.dtype.kind == "O" and _is_free_text(cells):
        return Suspicion(name, "texts of several words, nearly all different", "detect", share)
    return None


def _fits(tag: str) -> bool:
    """Whether texts can be generalized so."""
    return "prefix" in tag or "year" in tag


def _cells(column: Array) -> list[str]:
    step = max(1, len(column) // _LOOK_ROWS)
    cells = []
    for value in column[::step].tolist():
        if value is None or value != value:
            continue
        # A number may be a telephone's or a card's: without a fraction it is read as it is written.
        cells.append(
            str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        )
    return [cell for cell in cells if cell]


def _by_name(name: str) -> tuple[str, str] | None:
    # `customerName` and `customer-name` read like `customer_name`.
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    plain = re.sub(r"[\s.-]+", "_", plain)
    for pattern, holds, tag in _NAMES:
        if re.search(pattern, plain):
            return holds, tag
    return None


def _is_free_text(cells: list[str]) -> bool:
    if len(cells) < 10:
        return False
    mean = sum(map(len, cells)) / len(cells)
    return mean >= _LONG_TEXT and len(set(cells)) >= _DIFFERENT * len(cells)
