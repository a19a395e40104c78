# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may leave the cluster in a report: text and objects without anything that is a secret or looks like one (private: may change without notice).

Pure. Three nets, one behind the other: values that are known to be secret, in the encodings they turn up in; places where secrets stand (after a
telling name, in an address, in a header, in a key block, in a command of a database); and words that look random. The first is certain, the
others are not: what is only hexadecimal is left, for digests and identifiers of requests look the same.
"""

from __future__ import annotations

import base64
import json
import math
import re
import typing as t
import urllib.parse
from collections import Counter
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._kube.masks import HIDDEN, LAST_APPLIED, SHORTEST

Json = dict[str, t.Any]

# A name that tells: DB_PASSWORD, apiKey, X-Auth-Token. What only speaks of secrets (secretName, token_count, passwordPolicy) tells nothing.
TELLING = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|signing[-_.]?key|encryption[-_.]?key"
    r"|master[-_.]?key|credential|requirepass|masterauth|authorization|cookie|session[-_.]?id|dsn|bearer|signature|otp|pin[-_.]?code)s?"
)
HARMLESS = re.compile(
    r"(?:name|names|ref|refs|file|files|path|paths|dir|seconds|count|counts|policy|type|enabled|version|mount|length|age|days|id|ids|hash"
    r"|rotation|store|provider|review|reviews|account|expiry|volume|limit|limits|usage|used|projection|items|optional)$",
    re.IGNORECASE,
)
_NAME = rf"(?P<name>[A-Za-z0-9_.-]{{0,64}}{TELLING}[A-Za-z0-9_.-]{{0,64}})"  # bounded, or a line of a million letters takes a day
TELLING_NAME = re.compile(rf"[A-Za-z0-9_./-]*{TELLING}[A-Za-z0-9_.-]*", re.IGNORECASE)
# name=value, name: value, "name": "value", \"name\":\"value\", --name value, name -> value
ASSIGNED = re.compile(
    rf"{_NAME}(?P<between>\\*[\"']?\s*(?:=>|->|:=|[=:])\s*(?:(?:Bearer|Basic|Digest|Token)\s+)?)"
    rf"(?P<value>\\+\"(?:(?!\\+\").)*\\+\"|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s,;&\"'}}\]){{]+)",
    re.IGNORECASE,
)
OPTION = re.compile(rf"(?P<before>(?:^|\s)--?{_NAME}\s+)(?P<value>[^\s-]\S*)", re.IGNORECASE)
PLACES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
    (re.compile(r"\b(?:Bearer|Basic|Digest|Negotiate)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    # The password goes up to the last @ of the word: an unescaped one may hold an @ or a slash.
    (re.compile(r"(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*:)[^\s\"']*(?=@)"), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\bIDENTIFIED\s+BY\s+)(?:'(?:[^']|'')*'?|\S+)", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\bPASSWORD\s+)(?:'(?:[^']|'')*'?|\"[^\"]*\"?|\$\$.*?\$\$)", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\b(?:requirepass|masterauth)\s+)\S+", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\bAUTH\s+)\"?[^\s\"]+\"?(?:\s+\"?[^\s\"]+\"?)?"), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"(?P<keep>\s-u\s+[^\s:]+:)\S+"), rf"\g<keep>{HIDDEN}"),
    (re.compile(r"SCRAM-SHA-(?:1|256)\$\S+|\bmd5[0-9a-f]{32}\b|\$(?:2[aby]|5|6|argon2id?|y)\$\S+"), HIDDEN),
    (
        re.compile(
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{30,}|\bhv[sb]\.\S{20,}"
        ),
        HIDDEN,
    ),
    (re.compile(r"(?P<keep>\b(?:Set-)?Cookie:\s*)[^\r\n]+", re.IGNORECASE), rf"\g<keep>{HIDDEN}"),
)
ACL = re.compile(r"\buser\s+\S+\s+(?:on|off|reset|[>#+~&])[^\n]*")  # a rule of Redis: user NAME on >password #hash
ACL_PASSWORD = re.compile(r"(?<=\s)[>#]\S+")
WORD = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
RANDOM_BITS = 3.5  # per character; a word of a language, or of names joined by dashes, has less
PUBLIC_WORD = re.compile(r"applyset-[A-Za-z0-9_-]+-v1")  # the id of a set is a hash of its name
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


class Redactor:
    """Hides ``known`` values and what looks like one. Counts what it hid, so that a report can say that it did."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        forms = {form for value in known for form in encodings(value)}
        self._known = sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)
        self.hidden = 0

    def text(self, text: str) -> str:
        for value in self._known:
            if value in text:
                self.hidden += text.count(value)
                text = text.replace(value, HIDDEN)
        for pattern, replacement in PLACES:
            text, times = pattern.subn(replacement, text)
            self.hidden += times
        text = ACL.sub(lambda rule: ACL_PASSWORD.sub(lambda _match: self.hide(), rule[0]), text)
        text = ASSIGNED.sub(self._assigned, text)
        text = OPTION.sub(self._option, text)
        return WORD.sub(self._word, text)

    def item(self, item: Json) -> Json:
        """A Kubernetes object as it may be shown. Of a Secret only the names of its keys are left, though nobody should have asked for one."""
        if item.get("kind") == "Secret":
            shown: Json = {key: item[key] for key in ("apiVersion", "kind", "type") if key in item}
            metadata = item.get("metadata") or {}
            shown["metadata"] = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
            return {**shown, "data": dict.fromkeys({**(item.get("data") or {}), **(item.get("stringData") or {})}, HIDDEN)}
        return t.cast(Json, self.value(item))

    def value(self, it: t.Any, path: tuple[str, ...] = ()) -> t.Any:
        """A part of an object; ``path`` are the names of the fields above it, lists without numbers."""
        if isinstance(it, str):
            return self._string(it, path)
        if isinstance(it, list):
            return [self.value(inner, path) for inner in it]
        if not isinstance(it, dict):
            return it
        shown = {key: self.value(inner, (*path, str(key))) for key, inner in it.items() if key not in ("managedFields", LAST_APPLIED)}
        if len(path) > 1 and path[-1] == "env" and path[-2] in CONTAINERS and telling(str(it.get("name", ""))) and it.get("value"):
            shown["value"] = self.hide()
        return shown

    def _string(self, text: str, path: tuple[str, ...]) -> str:
        """A text under a telling name in data, annotations or environment is hidden whole; anything else is read as text."""
        place = path[-2] if len(path) > 1 else ""
        if place in ("data", "annotations", "binaryData", "parameters") and telling(path[-1]) and text:
            return self.hide()
        if place == "labels" or (path and path[-1] in ("uid", "image", "imageID", "containerID")):
            return self._known_only(text)
        return self.text(text)

    def _known_only(self, text: str) -> str:
        for value in self._known:
            if value in text:
                self.hidden += 1
                text = text.replace(value, HIDDEN)
        return text

    def hide(self) -> str:
        self.hidden += 1
        return HIDDEN

    def _assigned(self, match: re.Match[str]) -> str:
        value = match["value"]
        if HARMLESS.search(match["name"]) or value.strip("\\\"'") in ("", HIDDEN, "null", "None", "true", "false", "nil", "{}", "[]"):
            return match[0]
        mark = re.match(r"\\*[\"']", value)
        quote = mark[0] if mark else ""
        return match["name"] + match["between"] + quote + self.hide() + quote

    def _option(self, match: re.Match[str]) -> str:
        return match[0] if HARMLESS.search(match["name"]) or HIDDEN in match["value"] else match["before"] + self.hide()

    def _word(self, match: re.Match[str]) -> str:
        return self.hide() if looks_random(match[0]) and not PUBLIC_WORD.fullmatch(match[0]) else match[0]


def telling(name: str) -> bool:
    """Whether a value under this name is to be taken for a secret."""
    return bool(TELLING_NAME.fullmatch(name)) and not HARMLESS.search(name)


def looks_random(word: str) -> bool:
    """Large and small letters and digits, mixed as only a generator mixes them. Paths and names joined by dashes are looked at piece by piece."""
    for piece in re.split(r"[/_=-]" if re.search(r"[/_-][a-z]+[/_-]", word) else r"[=]", word):
        classes = (re.search(r"[a-z]", piece), re.search(r"[A-Z]", piece), re.search(r"[0-9]", piece))
        if len(piece) < 20 or not all(classes):
            continue
        counts = Counter(piece)
        if -sum(count / len(piece) * math.log2(count / len(piece)) for count in counts.values()) >= RANDOM_BITS:
            return True
    return False


def encodings(value: str) -> set[str]:
    """The forms in which a value turns up: as it is, line by line, as base64, in an address, in JSON."""
    forms = {value, *(line for line in value.splitlines() if len(line.strip()) >= SHORTEST)}
    forms |= {base64.b64encode(value.encode()).decode(), base64.urlsafe_b64encode(value.encode()).decode()}
    forms |= {form.rstrip("=") for form in list(forms) if form.endswith("=")}
    forms |= {urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    return forms
